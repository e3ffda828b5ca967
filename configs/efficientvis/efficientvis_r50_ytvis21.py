# EfficientVIS R-50 on YouTube-VIS 2021. Its videos may be longer than a clip, so clips are trained
# in pairs; an epoch is taken for one pair from each of the 2,985 videos.
_base_ = "./efficientvis_r50_ytvis19.py"

train_dataloader = dict(
    dataset=dict(
        _base_._ytvis21.train,
        pipeline=[
            dict(type="ClipSample", clip_length=_base_._clip_length, num_clips=2),
            *_base_._train_pipeline[1:],
        ],
    )
)
val_dataloader = dict(dataset=_base_._ytvis21.val)
test_dataloader = dict(dataset=_base_._ytvis21.test)

_epoch = 2985 // 4
train_cfg = dict(max_iters=33 * _epoch, val_interval=3 * _epoch)
_warmup, _step = _base_.param_scheduler
param_scheduler = [_warmup, dict(_step, end=33 * _epoch, milestones=[27 * _epoch])]
default_hooks = dict(checkpoint=dict(interval=_epoch))
