# The image-level detector that every method starts from on ShapesVIS, trained from random weights
# on single frames. It stands where COCO pre-training stands in the papers.
_base_ = [
    "../_base_/models/mask_rcnn_r18_shapes.py",
    "../_base_/datasets/shapes_images.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

val_dataloader = dict(dataset=dict(data_root="data/shapes_vis_large/"))
test_dataloader = val_dataloader

# From random weights: longer than the methods that start from it, in one cycle.
_max_iters = 8000
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)
param_scheduler = [
    dict(type="OneCycleLR", eta_max=1e-3, total_steps=_max_iters, pct_start=0.1, by_epoch=False)
]
auto_scale_lr = dict(base_batch_size=8)
