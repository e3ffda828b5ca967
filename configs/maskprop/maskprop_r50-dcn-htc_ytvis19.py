# MaskProp with Hybrid Task Cascade R-50 and deformable convolutions in stages 3 to 5 (c3-c5): the
# paper's kind of detector with a smaller backbone.
_base_ = [
    "../_base_/models/htc_r50_fpn.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

# No COCO weights are published with deformable convolutions on this backbone: those of the plain
# one are loaded, and the offsets start at zero, where both compute the same.
detector = _base_.model
detector.pop("data_preprocessor")
detector.backbone.dcn = dict(type="Float32DCN", deform_groups=1, fallback_on_stride=False)
detector.backbone.stage_with_dcn = (False, True, True, True)
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
    ),
    tracker=dict(type="ClipTracker", match_threshold=0.2),
    reach=6,
)
del detector

train_pipeline = [
    dict(type="CenteredClipSample", num_frames=3, frame_range=6),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
