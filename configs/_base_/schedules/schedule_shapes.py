# ShapesVIS: iterations, AdamW, one cycle: up to the peak within a tenth of the run, then down along
# a cosine. (OneCycleLR sets the peak by itself and would ignore auto_scale_lr.)
# To train longer override max_iters, end and T_max together.
max_iters = 3000
warmup_iters = max_iters // 10

train_cfg = dict(type="ResumableIterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10, norm_type=2),
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

# The learning rate is for this many samples an iteration, over all processes.
auto_scale_lr = dict(enable=False, base_batch_size=4)

# At least two checkpoints are kept: MMEngine deletes the oldest before it writes the newest.
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=250, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
log_processor = dict(type="LogProcessor", window_size=20, by_epoch=False)
