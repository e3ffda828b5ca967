# MaskTrack R-CNN with Mask R-CNN R-50 on YouTube-VIS 2019: MMDetection's settings, but for the RPN
# head, which it trains on one class only (README.md).
_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

detector = _base_.model
detector.pop("data_preprocessor")
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
    track_head=dict(
        type="RoITrackHead",
        roi_extractor=dict(
            type="Float32RoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        embed_head=dict(
            type="RoIEmbedHead",
            num_fcs=2,
            roi_feat_size=7,
            in_channels=256,
            fc_out_channels=1024,
        ),
        train_cfg=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler",
                num=128,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            pos_weight=-1,
            debug=False,
        ),
    ),
    tracker=dict(
        type="MaskTrackRCNNTracker",
        match_weights=dict(det_score=1.0, iou=2.0, det_label=10.0),
        num_frames_retain=20,
    ),
)
del detector

# 8 GPUs with one pair of frames each: any other frame of the video goes with the key frame.
train_dataloader = dict(batch_size=1)
