# SeqFormer on single frames of ShapesVIS: it stands where the training on COCO stands in the paper.
# The backbone starts from the weights of configs/mask_rcnn/mask_rcnn_r18_shapes.py, the
# transformer at random.
_base_ = [
    "../_base_/models/mssts_seqformer_r18_shapes.py",
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
        )
    )
)

# More videos than the methods get, as for configs/mask_rcnn/mask_rcnn_r18_shapes.py.
train_pipeline = [
    dict(type="CenteredClipSample", num_frames=1),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(
    batch_size=8, dataset=dict(data_root="data/shapes_vis_large/", pipeline=train_pipeline)
)

max_iters = 6000
warmup_iters = 400
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
# The offsets of untrained attention learn three times as fast as those of the paper's.
optim_wrapper = dict(
    optimizer=dict(lr=5e-4, weight_decay=1e-4),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1),
            reference_points=dict(lr_mult=0.3),
            sampling_offsets=dict(lr_mult=0.3),
        )
    ),
    clip_grad=dict(max_norm=1.0),
)
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
