# YouTube-VIS as MaskTrack R-CNN and the methods after it train: 12 epochs, each of which visits
# every frame that has an object once, SGD, steps at epochs 8 and 11.
_max_epochs = 12

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=_max_epochs, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.00125, momentum=0.9, weight_decay=0.0001),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type="MultiStepLR", by_epoch=True, begin=0, end=_max_epochs, milestones=[8, 11], gamma=0.1
    ),
]

# The learning rate is for this many samples an iteration, over all processes.
auto_scale_lr = dict(enable=False, base_batch_size=8)

# At least two checkpoints are kept: MMEngine deletes the oldest before it writes the newest.
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
