# IFC R-50 on YouTube-VIS 2019, near-online. The backbone starts from DETR's COCO weights; where the
# paper starts, with the whole network trained on COCO, is told in README.md.
_base_ = [
    "../_base_/models/ifc_r50.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/iterations.py",
    "../_base_/default_runtime.py",
]

model = dict(
    network=dict(
        backbone=dict(
            init_cfg=dict(
                type="Pretrained",
                checkpoint="https://download.openmmlab.com/mmdetection/v3.0/detr/"
                "detr_r50_8xb2-150e_coco/detr_r50_8xb2-150e_coco_20221023_153551-436d03e8.pth",
                prefix="backbone.",
            )
        )
    )
)

# Resized with anti-aliasing, as by the authors.
_train_pipeline = [
    dict(type="RangeClipSample", num_frames=5, frame_range=20),
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="LoadFrame"),
            dict(type="LoadTrackAnnotations", with_mask=True),
            dict(
                type="RandomChoiceResize",
                scales=[(1333, 360), (1333, 480)],
                resize_type="Resize",
                keep_ratio=True,
                backend="pillow",
            ),
            dict(type="RandomFlip", prob=0.5),
        ],
    ),
    dict(type="PackTrackInputs"),
]
_test_pipeline = [
    dict(
        type="TransformBroadcaster",
        transforms=[
            dict(type="LoadFrame"),
            dict(type="Resize", scale=(1333, 360), keep_ratio=True, backend="pillow"),
        ],
    ),
    dict(type="PackTrackInputs"),
]
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type="InfiniteVideoSampler"),
    dataset=dict(pipeline=_train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=_test_pipeline))

_max_iters = 6000
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.01),
)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=_max_iters, milestones=[4000], gamma=0.1)
]

# 8 GPUs with 2 clips each.
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(checkpoint=dict(interval=500))
