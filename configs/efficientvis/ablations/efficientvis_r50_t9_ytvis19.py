# Table 1c: clips of 9 frames, trained in pairs (18 frames a sample: an epoch has twice as many).
_base_ = "../efficientvis_r50_ytvis19.py"

model = dict(clip_length=9)
_train_pipeline = [
    dict(type="ClipSample", clip_length=9, num_clips=2),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))

_epoch = 2 * _base_._epoch
train_cfg = dict(max_iters=33 * _epoch, val_interval=3 * _epoch)
_warmup, _step = _base_.param_scheduler
param_scheduler = [_warmup, dict(_step, end=33 * _epoch, milestones=[27 * _epoch])]
default_hooks = dict(checkpoint=dict(interval=_epoch))
