# VisTR on single frames of ShapesVIS: it stands where the training on COCO stands in the paper. The
# backbone starts from the weights of configs/mask_rcnn/mask_rcnn_r18_shapes.py, the rest at random.
# Queries and the last convolutions are those of one frame: they are not taken over.
_base_ = [
    "../_base_/models/vistr_r18_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

model = dict(
    network=dict(
        backbone=dict(
            init_cfg=dict(
                type="Pretrained",
                checkpoint="{{ fileDirname }}/../../weights/mask_rcnn_r18_shapes.pth",
                prefix="backbone.",
            )
        ),
        queries=dict(per="instance"),
    ),
)

# More videos than the methods get, as for configs/mask_rcnn/mask_rcnn_r18_shapes.py.
_train_pipeline = [
    dict(type="CircularClipSample", length=1),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(
    batch_size=8, dataset=dict(data_root="data/shapes_vis_large/", pipeline=_train_pipeline)
)

optim_wrapper = dict(
    optimizer=dict(lr=5e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.1),
)
train_cfg = dict(max_iters=6000, val_interval=6000)
_warmup, _annealing = _base_.param_scheduler
param_scheduler = [
    dict(_warmup, end=400),
    dict(_annealing, begin=400, end=6000, T_max=5600),
]
auto_scale_lr = dict(base_batch_size=8)
