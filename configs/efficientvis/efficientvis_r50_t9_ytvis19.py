# Table 1c: clips of 9 frames, trained in pairs (18 frames a sample: an epoch has twice as many).
_base_ = "./efficientvis_r50_ytvis19.py"

model = dict(clip_length=9)
train_pipeline = [
    dict(type="ClipSample", clip_length=9, num_clips=2),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

epoch = 2 * _base_.epoch
max_iters = 33 * epoch
train_cfg = dict(max_iters=max_iters, val_interval=3 * epoch)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[27 * epoch],
        gamma=0.1,
    ),
]
default_hooks = dict(checkpoint=dict(interval=epoch))
