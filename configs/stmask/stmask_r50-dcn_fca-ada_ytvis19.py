# STMask R-50 on YouTube-VIS 2019 as released: FCA, FCB (adaptive, on the class branch) and temporal
# fusion, trained on pairs of frames at most 2 apart for 12 epochs. The others inherit from it.
_base_ = [
    "../_base_/models/stmask_r50-dcn.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
_frames = _detector.pop("data_preprocessor")
# What fits of MMDetection's YOLACT: backbone, most of the FPN, prototypes. The authors start from
# YOLACT++; README.md tells how to do so.
_detector.init_cfg = dict(
    type="Pretrained",
    checkpoint="https://download.openmmlab.com/mmdetection/v2.0/yolact/yolact_r50_1x8_coco/"
    "yolact_r50_1x8_coco_20200908-f38d58df.pth",
)
del _base_.model

model = dict(
    type="STMask",
    data_preprocessor=dict(_frames, type="TrackDataPreprocessor"),
    detector=_detector,
    temporal_fusion=dict(
        type="TemporalFusion",
        level=1,
        window=11,
        in_channels=256,
        conv_channels=(512, 512, 1024),
        num_coeffs=32,
        roi_size=7,
    ),
    tracker=dict(
        type="STMaskTracker",
        mask_weight=1.0,
        box_weight=2.0,
        dummy_iou=0.3,
        score_decay=0.95,
        max_shown_gap=10,
        min_score=0.05,
        min_area=1,
        max_gap=300,
    ),
    shift_box_weight=5.0,
    shift_mask_weight=6.125,
)

# All frames are brought to the same size, whatever their shape.
_resize = dict(type="Resize", scale=(640, 360), keep_ratio=False)
_train_pipeline = [
    dict(type="AnnotatedPairSample", frame_range=2),
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="LoadFrame"),
            dict(type="LoadTrackAnnotations", with_mask=True),
            _resize,
            dict(type="RandomFlip", prob=0.5),
        ],
    ),
    dict(type="PackTrackInputs"),
]
_test_pipeline = [
    dict(type="TransformBroadcaster", transforms=[dict(type="LoadFrame"), _resize]),
    dict(type="PackTrackInputs"),
]
# 4 GPUs with 2 pairs each.
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=_test_pipeline))

optim_wrapper = dict(type="FiniteOptimWrapper", optimizer=dict(lr=1e-4), clip_grad=None)

# For the configs with R-101, deformable in every third block.
_r101 = dict(
    backbone=dict(depth=101, dcn_interval=3),
    init_cfg=dict(
        checkpoint="https://download.openmmlab.com/mmdetection/v2.0/yolact/yolact_r101_1x8_coco/"
        "yolact_r101_1x8_coco_20200908-4cbe9101.pth"
    ),
)
