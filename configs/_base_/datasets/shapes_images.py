# Single frames of ShapesVIS, for the image-level models that stand where COCO pre-training stands
# in the papers. They see more videos than the methods, so that they learn classes rather than
# colours; the validation videos are drawn apart from them by their seed.
_base_ = "./shapes.py"

_train_pipeline = [
    dict(type="SampleKeyFrame"),
    dict(type="LoadFrame"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=[0.25, 0.25], direction=["horizontal", "vertical"]),
    dict(type="PackDetInputs"),
]
_test_pipeline = [
    dict(type="SampleKeyFrame"),
    dict(type="LoadFrame"),
    dict(type="Resize", scale=(128, 96), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "instances"),
    ),
]
train_dataloader = dict(
    batch_size=8, dataset=dict(data_root="data/shapes_vis_large/", pipeline=_train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type="CocoMetric", metric=["bbox", "segm"], format_only=False)
test_evaluator = val_evaluator
