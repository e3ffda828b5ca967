# IFC's network on COCO, each image a clip of one frame: what the video configs' training starts
# from. From ImageNet weights, 300 epochs of 32 images an iteration.
_base_ = [
    "../_base_/models/ifc_r50.py",
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
model = dict(
    _delete_=True,
    type="IFCDetector",
    data_preprocessor=dict(_frames, type="DetDataPreprocessor"),
    network=_network,
    criterion=_base_.model.criterion,
)

_train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="RandomCrop",
        crop_type="absolute_range",
        crop_size=(384, 600),
        allow_negative_crop=True,
    ),
    dict(
        type="RandomChoiceResize",
        scales=[(1333, side) for side in range(480, 801, 32)],
        resize_type="Resize",
        keep_ratio=True,
        backend="pillow",
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
_test_pipeline = [
    _base_._test_pipeline[0],
    dict(type="Resize", scale=(1333, 800), keep_ratio=True, backend="pillow"),
    *_base_._test_pipeline[2:],
]
train_dataloader = dict(
    batch_size=4,
    sampler=dict(_delete_=True, type="InfiniteSampler", shuffle=True),
    dataset=dict(filter_cfg=None, pipeline=_train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
test_dataloader = val_dataloader

_max_iters = 1108800
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters // 30)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.01),
)
param_scheduler = [
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=_max_iters,
        milestones=[739200],
        gamma=0.1,
    )
]

# 8 GPUs with 4 images each.
auto_scale_lr = dict(enable=False, base_batch_size=32)
default_hooks = dict(checkpoint=dict(interval=5000))
