# The image model of STMask on COCO, from ImageNet weights: 550 x 550 pixels and 55 epochs, as
# YOLACT. Its weights are what the video configs start from.
_base_ = [
    "../_base_/models/stmask_r50-dcn.py",
    "../_base_/datasets/coco.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    data_preprocessor=dict(pad_size_divisor=1),  # all images have one size
    backbone=dict(
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.pytorch.org/models/resnet50-19c8e357.pth",
        )
    ),
    bbox_head=dict(num_classes=80),
    test_cfg=dict(max_per_img=100, class_agnostic=False),
)

_resize = dict(type="Resize", scale=(550, 550), keep_ratio=False)
_train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(4.0, 4.0)),
    dict(type="Expand", mean=[123.675, 116.28, 103.53], to_rgb=True, ratio_range=(1, 4)),
    dict(type="MinIoURandomCrop", min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    _resize,
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
_test_pipeline = [_base_._test_pipeline[0], _resize, *_base_._test_pipeline[2:]]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
test_dataloader = val_dataloader

_max_epochs = 55
train_cfg = dict(max_epochs=_max_epochs)
optim_wrapper = dict(
    type="FiniteOptimWrapper", optimizer=dict(lr=1e-3, weight_decay=5e-4), clip_grad=None
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(
        type="MultiStepLR",
        by_epoch=True,
        begin=0,
        end=_max_epochs,
        milestones=[20, 42, 49, 52],
        gamma=0.1,
    ),
]
