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

# More videos than the methods get, as for configs/mask_rcnn/mask_rcnn_r18_shapes.py.
data_root = "data/shapes_vis_large/"

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
train_dataloader = dict(batch_size=8, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type="CocoMetric", metric=["bbox", "segm"], format_only=False)
test_evaluator = val_evaluator

max_iters = 3000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="OneCycleLR", eta_max=1e-3, total_steps=max_iters, pct_start=0.1, by_epoch=False)
]
auto_scale_lr = dict(base_batch_size=8)
