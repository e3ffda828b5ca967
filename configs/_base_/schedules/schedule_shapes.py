# ShapesVIS: iterations, AdamW, one cycle: up to the peak within a tenth of the run, then down along
# a cosine. (OneCycleLR sets the peak by itself and would ignore auto_scale_lr.)
# To train longer override train_cfg.max_iters, end and T_max together.
_base_ = "./iterations.py"

_max_iters = 3000
_warmup_iters = _max_iters // 10

train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, by_epoch=False, begin=0, end=_warmup_iters),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=1e-3,
        by_epoch=False,
        begin=_warmup_iters,
        end=_max_iters,
        T_max=_max_iters - _warmup_iters,
    ),
]

# The learning rate is for this many samples an iteration, over all processes.
auto_scale_lr = dict(enable=False, base_batch_size=4)

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=250, max_keep_ckpts=2))
log_processor = dict(window_size=20)
