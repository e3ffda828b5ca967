# EfficientVIS on ShapesVIS: clips of 8 frames, 3 to 5 of them in a video, trained in pairs, from
# the image-level weights of efficientvis_r18_image_shapes.py.
_base_ = [
    "../_base_/models/efficientvis_r18_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

model = dict(
    init_cfg=dict(
        type="Pretrained",
        checkpoint="{{ fileDirname }}/../../weights/efficientvis_r18_image_shapes.pth",
    )
)

_clip_length = _base_.model.clip_length
_train_pipeline = [
    dict(type="ClipSample", clip_length=_clip_length, num_clips=2),
    _base_._train_pipeline[1],
    dict(type="PackTrackInputs", meta_keys=("is_padding",)),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=3e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1), neck=dict(lr_mult=0.2))),
    clip_grad=dict(max_norm=1.0),
)
train_cfg = dict(max_iters=1600, val_interval=1600)
_warmup, _annealing = _base_.param_scheduler
param_scheduler = [
    dict(_warmup, end=160),
    dict(_annealing, begin=160, end=1600, T_max=1440),
]
auto_scale_lr = dict(base_batch_size=2)
