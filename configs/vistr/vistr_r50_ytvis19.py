# VisTR R-50 on YouTube-VIS 2019: clips of 36 frames, which hold any of its videos. The backbone
# starts from ImageNet weights; the authors' start, with the transformer trained on COCO too, is
# told in README.md.
_base_ = [
    "../_base_/models/vistr_r50.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    network=dict(
        backbone=dict(
            init_cfg=dict(
                type="Pretrained",
                checkpoint="https://download.pytorch.org/models/resnet50-19c8e357.pth",
            )
        )
    )
)

_resize = dict(type="ResizeShortSide", side=300, max_long_side=540, backend="pillow")
_train_pipeline = [
    dict(type="CircularClipSample", length=36),
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="LoadFrame"),
            dict(type="LoadTrackAnnotations", with_mask=True),
            dict(type="RandomFlip", prob=0.5),
            dict(
                type="SharedRandomChoice",
                transforms=[
                    [dict(type="ResizeShortSide", side=side, max_long_side=800, backend="pillow")]
                    for side in range(480, 769, 32)
                ],
            ),
        ],
    ),
    # Colours change from frame to frame.
    dict(
        type="TransformBroadcaster",
        share_random_params=False,
        transforms=[dict(type="PhotoMetricDistortion")],
    ),
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(
                type="SharedRandomChoice",
                transforms=[
                    [dict(type="ResizeShortSide", side=side, backend="pillow")]
                    for side in (400, 500, 600)
                ],
            ),
            dict(
                type="RandomCrop",
                crop_type="absolute_range",
                crop_size=(384, 600),
                allow_negative_crop=True,
            ),
            _resize,
        ],
    ),
    dict(type="PackTrackInputs"),
]
_test_pipeline = [
    dict(
        type="TransformBroadcaster",
        transforms=[
            dict(type="LoadFrame"),
            # However long the other side; with antialiasing, as torchvision.
            dict(type="ResizeShortSide", side=300, backend="pillow"),
        ],
    ),
    dict(type="PackTrackInputs"),
]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=_train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=_test_pipeline))

train_cfg = dict(max_epochs=18)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=18, milestones=[12], gamma=0.1)
]
# 8 GPUs with a clip each.
auto_scale_lr = dict(base_batch_size=8)
