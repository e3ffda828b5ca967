# VisTR on ShapesVIS: clips of 12 frames, from the weights of mask_rcnn_r18_shapes.py for the
# backbone. README.md tells how to start from vistr_r18_image_shapes.py, as the paper's model starts
# from COCO.
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
        )
    )
)

_train_pipeline = [
    dict(type="CircularClipSample", length=12),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=_train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=4e-4, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=0.1),
)
train_cfg = dict(max_iters=5000, val_interval=5000)
_warmup, _annealing = _base_.param_scheduler
param_scheduler = [
    dict(_warmup, end=200),
    dict(_annealing, begin=200, end=5000, T_max=4800),
]
auto_scale_lr = dict(base_batch_size=1)
