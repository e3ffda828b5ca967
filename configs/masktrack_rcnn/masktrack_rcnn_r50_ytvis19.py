# MaskTrack R-CNN with Mask R-CNN R-50 on YouTube-VIS 2019: MMDetection's settings, but for the RPN
# head, which it trains on one class only (README.md).
_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn.py",
    "../_base_/models/masktrack_branch.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
_frames = _detector.pop("data_preprocessor")
_detector.rpn_head.type = "AgnosticRPNHead"
_detector.train_cfg.rpn.sampler.num = 64
_detector.train_cfg.rpn_proposal.update(nms_pre=200, max_per_img=200)
_detector.train_cfg.rcnn.sampler.num = 128
_detector.test_cfg.rpn.update(nms_pre=200, max_per_img=200)
_detector.test_cfg.rcnn.score_thr = 0.01
del _base_.model

model = dict(
    type="StreamingMaskTrackRCNN",
    data_preprocessor=dict(_frames, type="TrackDataPreprocessor"),
    detector=_detector,
    track_head=_base_._track_head,
    tracker=_base_._tracker,
)

# 8 GPUs with one pair of frames each: any other frame of the video goes with the key frame.
train_dataloader = dict(batch_size=1)
