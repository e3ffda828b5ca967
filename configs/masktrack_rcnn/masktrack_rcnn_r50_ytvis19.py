# MaskTrack R-CNN with Mask R-CNN R-50 on YouTube-VIS 2019: MMDetection's settings, but for the RPN
# head, which it trains on one class only (README.md).
_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn.py",
    "../_base_/models/masktrack_branch.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

detector = _base_.model
detector.pop("data_preprocessor")
# The weights that configs/maskprop/maskprop_r50_ytvis19.py starts from.
detector.init_cfg.checkpoint = (
    "https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r50_fpn_mstrain-poly_3x_"
    "coco/mask_rcnn_r50_fpn_mstrain-poly_3x_coco_20210524_201154-21b550bb.pth"
)
detector.rpn_head.type = "AgnosticRPNHead"
detector.train_cfg.rpn.sampler.num = 64
detector.train_cfg.rpn_proposal.update(nms_pre=200, max_per_img=200)
detector.train_cfg.rcnn.sampler.num = 128
detector.test_cfg.rpn.update(nms_pre=200, max_per_img=200)
detector.test_cfg.rcnn.score_thr = 0.01
del _base_.model

model = dict(
    type="StreamingMaskTrackRCNN",
    data_preprocessor=dict(
        type="TrackDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    detector=detector,
    track_head=_base_.track_head,
    tracker=_base_.tracker,
)
del detector

# 8 GPUs with one pair of frames each: any other frame of the video goes with the key frame.
train_dataloader = dict(batch_size=1)
