# STMask on ShapesVIS: FCA, FCB (adaptive, on the class branch) and temporal fusion with a narrow
# image model, started from the image-level weights of stmask_r18_image_shapes.py.
_base_ = [
    "../_base_/models/stmask_r18_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
_frames = _detector.pop("data_preprocessor")
# Each detection above it may open an identity.
_detector.test_cfg.score_thr = 0.3
_detector.init_cfg = dict(
    type="Pretrained", checkpoint="{{ fileDirname }}/../../weights/stmask_r18_image_shapes.pth"
)
del _base_.model

model = dict(
    type="STMask",
    data_preprocessor=dict(_frames, type="TrackDataPreprocessor"),
    detector=_detector,
    # At stride 8, where the window reaches 40 pixels to each side.
    temporal_fusion=dict(
        type="TemporalFusion",
        level=1,
        window=11,
        in_channels=56,
        conv_channels=(64, 64, 128),
        num_coeffs=16,
        roi_size=7,
    ),
    # Objects dash farther than they are long: looks count as much as overlap, and what is carried
    # on goes astray soon.
    tracker=dict(
        type="STMaskTracker", mask_weight=0.5, box_weight=1.0, dummy_iou=0.05, max_shown_gap=3
    ),
)

_train_pipeline = [
    dict(type="AnnotatedPairSample", frame_range=2),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))

# The detector is trained already; temporal fusion starts at random, and embeddings learn from pairs
# of frames rather than from single ones.
optim_wrapper = dict(
    type="FiniteOptimWrapper",
    paramwise_cfg=dict(
        custom_keys={"detector": dict(lr_mult=0.2), "bbox_head.track": dict(lr_mult=1.0)}
    ),
)
train_cfg = dict(max_iters=1800, val_interval=1800)
_warmup, _annealing = _base_.param_scheduler
param_scheduler = [
    dict(_warmup, end=180),
    dict(_annealing, begin=180, end=1800, T_max=1620),
]
