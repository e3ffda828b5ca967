"""A config of the toy task on the project's own base configs."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOY_CONFIG = """
_base_ = [
    "{root}/configs/_base_/default_runtime.py",
    "{root}/configs/_base_/schedules/{schedule}.py",
]
custom_imports = dict(imports=["mmvis_plugin", "toy_task"], allow_failed_imports=False)
model = dict(type="ToyModel")
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="{sampler}"),
    dataset=dict(type="ToyVideos"),
)
val_dataloader = dict(
    batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False), dataset=dict(type="ToyVideos")
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ToyMetric")
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=1))
log_processor = dict(window_size=1)
"""


def write_toy_config(
    path: Path,
    extra: str = "",
    schedule: str = "schedule_shapes",
    sampler: str = "InfiniteKeyFrameSampler",
) -> Path:
    """Write the config, with more lines at its end."""
    text = TOY_CONFIG.format(root=ROOT, schedule=schedule, sampler=sampler)
    path.write_text(text + extra)
    return path
