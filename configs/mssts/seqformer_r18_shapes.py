# SeqFormer on ShapesVIS: clips of 5 frames, whole videos at test time, from the image-level weights
# of seqformer_r18_image_shapes.py.
_base_ = [
    "../_base_/models/mssts_seqformer_r18_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

model = dict(
    # A mask that is unsure has often mixed up two objects, of which the class knows nothing.
    score_powers=(0.5, 8),
    init_cfg=dict(
        type="Pretrained",
        checkpoint="{{ fileDirname }}/../../weights/seqformer_r18_image_shapes.pth",
    ),
)

_train_pipeline = [
    # Near frames are nearly copies here: 10 away, objects have left the places of their queries.
    dict(type="LocalGlobalClipSample", num_frames=5, local_range=10),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=4e-4, weight_decay=1e-4),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1),
            # As on single frames: queries that found their objects by place learn to follow them.
            reference_points=dict(lr_mult=0.3),
            sampling_offsets=dict(lr_mult=0.3),
            # The additions of mssts_r18_*: they start at zero, the rest is trained already.
            ms_sts=dict(lr_mult=5.0),
            temporal=dict(lr_mult=5.0),
        )
    ),
    clip_grad=dict(max_norm=1.0),
)
train_cfg = dict(max_iters=5000, val_interval=5000)
_warmup, _annealing = _base_.param_scheduler
param_scheduler = [
    dict(_warmup, end=200),
    dict(_annealing, begin=200, end=5000, T_max=4800),
]
auto_scale_lr = dict(base_batch_size=2)
