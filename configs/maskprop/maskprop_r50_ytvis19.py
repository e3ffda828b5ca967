# MaskProp with Mask R-CNN R-50 on YouTube-VIS 2019: training on clips of 3 frames, testing on clips
# of 13 (T = 6), from COCO weights. What the paper does not tell is in README.md.
_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

detector = _base_.model
detector.pop("data_preprocessor")
detector.init_cfg.checkpoint = (
    "https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r50_fpn_mstrain-poly_3x_"
    "coco/mask_rcnn_r50_fpn_mstrain-poly_3x_coco_20210524_201154-21b550bb.pth"
)
# The tracker looks at masks alone: one object may not come twice, as two classes.
detector.test_cfg.rcnn.nms = dict(type="nms", iou_threshold=0.5, class_agnostic=True)
detector.test_cfg.rcnn.score_thr = 0.05
detector.test_cfg.rcnn.max_per_img = 20
del _base_.model

model = dict(
    type="MaskProp",
    data_preprocessor=dict(
        type="TrackDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    detector=detector,
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
del detector

train_pipeline = [
    dict(type="CenteredClipSample", num_frames=3, frame_range=6),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
