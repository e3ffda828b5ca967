# MinVIS R-50 on YouTube-VIS 2019: trained on single frames, one of each video in turn, from
# Mask2Former's COCO weights.
_base_ = [
    "../_base_/models/minvis_r50.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/iterations.py",
    "../_base_/default_runtime.py",
]

model = dict(
    init_cfg=dict(
        type="Pretrained",
        checkpoint="https://download.openmmlab.com/mmdetection/v3.0/mask2former/"
        "mask2former_r50_8xb2-lsj-50e_coco/"
        "mask2former_r50_8xb2-lsj-50e_coco_20220506_191028-41b088b6.pth",
    ),
)

# Resized with anti-aliasing, as by the authors.
_train_pipeline = [
    dict(type="CenteredClipSample", num_frames=1),
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
_test_pipeline, _test_pipeline_480 = (
    [
        dict(
            type="TransformBroadcaster",
            transforms=[
                dict(type="LoadFrame"),
                dict(type="Resize", scale=(1333, side), keep_ratio=True, backend="pillow"),
            ],
        ),
        dict(type="PackTrackInputs"),
    ]
    for side in (360, 480)
)
train_dataloader = dict(
    batch_size=4,
    sampler=dict(type="InfiniteVideoSampler"),
    dataset=dict(pipeline=_train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=_test_pipeline))

_max_iters = 6000
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)

_embedding = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1, decay_mult=1.0),
            query_embed=_embedding,
            query_feat=_embedding,
            level_embed=_embedding,
        ),
        norm_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=0.01),
)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=_max_iters, milestones=[4000], gamma=0.1)
]

# The learning rate is for this many frames an iteration, over all processes: 8 GPUs with 4 each.
auto_scale_lr = dict(enable=False, base_batch_size=32)
default_hooks = dict(checkpoint=dict(interval=500))
