# The image model of stmask_r18_shapes.py on single frames of ShapesVIS: it stands where
# YOLACT's training on COCO stands in the paper. The backbone starts from the weights of
# configs/mask_rcnn/mask_rcnn_r18_shapes.py, where YOLACT's starts from ImageNet.
_base_ = [
    "../_base_/models/stmask_r18_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type="Pretrained",
            checkpoint="{{ fileDirname }}/../../weights/mask_rcnn_r18_shapes.pth",
            prefix="backbone.",
        ),
    )
)

train_pipeline = [
    dict(type="SampleKeyFrame"),
    dict(type="LoadFrame"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=[0.25, 0.25], direction=["horizontal", "vertical"]),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="SampleKeyFrame"),
    dict(type="LoadFrame"),
    dict(type="Resize", scale=(128, 96), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "instances"),
    ),
]
# More videos than the methods get, as for configs/mask_rcnn/mask_rcnn_r18_shapes.py.
train_dataloader = dict(
    batch_size=8, dataset=dict(data_root="data/shapes_vis_large/", pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type="CocoMetric", metric=["bbox", "segm"], format_only=False)
test_evaluator = val_evaluator

max_iters = 4000
warmup_iters = max_iters // 10
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
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
auto_scale_lr = dict(base_batch_size=8)
