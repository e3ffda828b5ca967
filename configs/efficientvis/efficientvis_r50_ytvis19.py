# EfficientVIS R-50 on YouTube-VIS 2019: clips of 36 frames, which hold any of its videos, so that
# there is no correspondence learning. Backbone and FPN start from QueryInst's COCO weights; for the
# start of the paper, whose stages are trained on COCO too, convert these weights (README.md).
_base_ = [
    "../_base_/models/efficientvis_r50_fpn.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/iterations.py",
    "../_base_/default_runtime.py",
]

_weights = (
    "https://download.openmmlab.com/mmdetection/v2.0/queryinst/"
    "queryinst_r50_fpn_mstrain_480-800_3x_coco/"
    "queryinst_r50_fpn_mstrain_480-800_3x_coco_20210901_103643-7837af86.pth"
)
model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint=_weights, prefix="backbone.")),
    neck=dict(init_cfg=dict(type="Pretrained", checkpoint=_weights, prefix="neck.")),
)

_clip_length = 36
_train_pipeline = [
    dict(type="ClipSample", clip_length=_clip_length, num_clips=1),
    # The paper trains without augmentation.
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="LoadFrame"),
            dict(type="LoadTrackAnnotations", with_mask=True),
            dict(type="Resize", scale=(640, 360), keep_ratio=True),
        ],
    ),
    dict(type="PackTrackInputs", meta_keys=("is_padding",)),
]
train_dataloader = dict(
    batch_size=1,
    sampler=dict(type="InfiniteKeyFrameSampler"),
    dataset=dict(pipeline=_train_pipeline),
)

# An epoch of the paper is taken for one clip of 36 frames, or as many frames in shorter ones, from
# each of the 2,238 videos: 12 hours on 4 GPUs do not allow for one from each frame.
_epoch = 2238 // 4  # iterations on 4 GPUs with one sample each
_max_iters = 33 * _epoch
train_cfg = dict(max_iters=_max_iters, val_interval=3 * _epoch)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2.5e-5, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=_max_iters,
        milestones=[27 * _epoch],
        gamma=0.1,
    ),
]

# The learning rate is for this many samples an iteration, over all processes.
auto_scale_lr = dict(enable=False, base_batch_size=4)
default_hooks = dict(checkpoint=dict(interval=_epoch))
