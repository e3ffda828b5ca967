# EfficientVIS on ShapesVIS: clips of 8 frames, 3 to 5 of them in a video, trained in pairs, from
# the image-level weights of efficientvis_r18_image_shapes.py.
_base_ = [
    "../_base_/models/efficientvis_r18_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

shipped_weights = "{{ fileDirname }}/../../weights/efficientvis_r18_shapes.pth"

model = dict(
    init_cfg=dict(
        type="Pretrained",
        checkpoint="{{ fileDirname }}/../../weights/efficientvis_r18_image_shapes.pth",
    )
)

clip_length = _base_.model.clip_length
train_pipeline = [
    dict(type="ClipSample", clip_length=clip_length, num_clips=2),
    _base_.train_pipeline[1],
    dict(type="PackTrackInputs", meta_keys=("is_padding",)),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))

max_iters = 1600
warmup_iters = 160
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    optimizer=dict(lr=3e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1), neck=dict(lr_mult=0.2))),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=1e-3,
        by_epoch=False,
        begin=warmup_iters,
        end=max_iters,
        T_max=max_iters - warmup_iters,
    ),
]
auto_scale_lr = dict(base_batch_size=2)
