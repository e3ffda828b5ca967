# MaskProp with Mask R-CNN R-50 on YouTube-VIS 2019: training on clips of 3 frames, testing on clips
# of 13 (T = 6), from COCO weights. What the paper does not tell is in README.md.
_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
_frames = _detector.pop("data_preprocessor")
_detector.init_cfg.checkpoint = (
    "https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r50_fpn_mstrain-poly_3x_"
    "coco/mask_rcnn_r50_fpn_mstrain-poly_3x_coco_20210524_201154-21b550bb.pth"
)
# The tracker looks at masks alone: one object may not come twice, as two classes.
_detector.test_cfg.rcnn.nms = dict(type="nms", iou_threshold=0.5, class_agnostic=True)
_detector.test_cfg.rcnn.score_thr = 0.05
_detector.test_cfg.rcnn.max_per_img = 20
del _base_.model

model = dict(
    type="MaskProp",
    data_preprocessor=dict(_frames, type="TrackDataPreprocessor"),
    detector=_detector,
    propagation_head=dict(
        type="PropagationHead",
        in_channels=256,
        in_strides=(4, 8, 16, 32),
        stride=8,
        channels=128,
        kernel_size=3,
        competition="softmax",
    ),
    mask_refiner=dict(type="MaskRefiner", size=384, num_blocks=13),
    tracker=dict(type="ClipTracker", match_threshold=0.2),
    reach=6,
    max_overlap=0.5,
)

_train_pipeline = [
    dict(type="CenteredClipSample", num_frames=3, frame_range=6),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))
