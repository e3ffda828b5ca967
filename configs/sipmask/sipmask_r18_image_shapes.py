# The image model of sipmask_r18_shapes.py on single frames of ShapesVIS: it stands where the
# authors' training on COCO stands. The backbone starts from the weights of
# configs/mask_rcnn/mask_rcnn_r18_shapes.py.
_base_ = [
    "../_base_/models/sipmask_r18_shapes.py",
    "../_base_/datasets/shapes_images.py",
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

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
train_cfg = dict(max_iters=4000, val_interval=4000)
_warmup, _annealing = _base_.param_scheduler
param_scheduler = [
    dict(_warmup, end=400),
    dict(_annealing, begin=400, end=4000, T_max=3600),
]
auto_scale_lr = dict(base_batch_size=8)
