# DETR with VisTR's 384 channels on COCO, each image a clip of one frame: what the video configs'
# training starts from. From ImageNet weights.
_base_ = [
    "../_base_/models/vistr_r50.py",
    "../_base_/datasets/coco.py",
    "../_base_/schedules/iterations.py",
    "../_base_/default_runtime.py",
]

_frames = _base_.model.data_preprocessor
_network = _base_.model.network
_network.num_classes = 80
_network.backbone.init_cfg = dict(
    type="Pretrained", checkpoint="https://download.pytorch.org/models/resnet50-19c8e357.pth"
)
_network.queries.update(per="instance", num_frames=1, num_instances=100)
# DETR's last convolutions.
_network.mask_head.update(deformable=False, clip_channels=None)
model = dict(
    _delete_=True,
    type="VisTRDetector",
    data_preprocessor=dict(_frames, type="DetDataPreprocessor"),
    network=_network,
    criterion=_base_.model.criterion,
)

# DETR's augmentation: half of the images are cropped.
_sides = [(1333, side) for side in range(480, 801, 32)]
_train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="RandomChoiceResize", scales=_sides, keep_ratio=True)],
            [
                dict(
                    type="RandomChoiceResize",
                    scales=[(4200, 400), (4200, 500), (4200, 600)],
                    keep_ratio=True,
                ),
                dict(
                    type="RandomCrop",
                    crop_type="absolute_range",
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                dict(type="RandomChoiceResize", scales=_sides, keep_ratio=True),
            ],
        ],
    ),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    batch_size=4,
    sampler=dict(_delete_=True, type="InfiniteSampler", shuffle=True),
    dataset=dict(filter_cfg=None, pipeline=_train_pipeline),
)

# 150 epochs of 32 images an iteration.
_max_iters = 554400
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters // 15)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = [
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=_max_iters,
        milestones=[369600],
        gamma=0.1,
    )
]
# 8 GPUs with 4 images each.
auto_scale_lr = dict(enable=False, base_batch_size=32)
default_hooks = dict(checkpoint=dict(interval=5000))
