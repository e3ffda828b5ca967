# What every config shares. Hooks and logs count epochs or iterations, so they are in the schedules.
default_scope = "mmdet"
custom_imports = dict(imports=["mmvis_plugin"], allow_failed_imports=False)

# Randomness in training is a function of (seed, iteration, rank): a resumed run repeats the
# uninterrupted one.
randomness = dict(seed=0)
custom_hooks = [dict(type="IterationSeedHook")]

# Without a GPU the tools use gloo whatever the backend here.
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)

_vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="Visualizer", vis_backends=_vis_backends, name="visualizer")

log_level = "INFO"
load_from = None
resume = False
