# EfficientVIS on single frames of ShapesVIS, clips of one frame: it stands where the detector
# trained on COCO stands in the paper. Backbone and FPN start from the weights of
# configs/mask_rcnn/mask_rcnn_r18_shapes.py, queries and stages at random.
_base_ = [
    "../_base_/models/efficientvis_r18_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

_weights = "{{ fileDirname }}/../../weights/mask_rcnn_r18_shapes.pth"
model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint=_weights, prefix="backbone.")),
    neck=dict(init_cfg=dict(type="Pretrained", checkpoint=_weights, prefix="neck.")),
    clip_length=1,
    # The queries of a frame say nothing about the next one yet.
    linking=dict(_delete_=True, type="HandCraftLinking", min_affinity=0.5),
)

# More videos than the methods get, as for configs/mask_rcnn/mask_rcnn_r18_shapes.py.
_train_pipeline = [
    dict(type="ClipSample", clip_length=1, num_clips=1),
    _base_._train_pipeline[1],
    dict(type="PackTrackInputs", meta_keys=("is_padding",)),
]
train_dataloader = dict(
    batch_size=12, dataset=dict(data_root="data/shapes_vis_large/", pipeline=_train_pipeline)
)

optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1), neck=dict(lr_mult=0.2))),
    clip_grad=dict(max_norm=1.0),
)
train_cfg = dict(max_iters=3000, val_interval=3000)
_warmup, _annealing = _base_.param_scheduler
param_scheduler = [
    dict(_warmup, end=300),
    dict(_annealing, begin=300, end=3000, T_max=2700),
]
auto_scale_lr = dict(base_batch_size=12)
