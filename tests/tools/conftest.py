import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TASK = Path(__file__).parent

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


@pytest.fixture
def toy_config(tmp_path):
    """Function that writes a config of the toy task on the project's own base configs."""

    def write(extra="", schedule="schedule_shapes", sampler="InfiniteKeyFrameSampler"):
        path = tmp_path / "toy.py"
        text = TOY_CONFIG.format(root=ROOT, schedule=schedule, sampler=sampler)
        path.write_text(text + extra)
        return path

    return write


@pytest.fixture
def tool(monkeypatch):
    """Function that runs a tool's main() in this process, as from the command line."""
    monkeypatch.syspath_prepend(str(TASK))
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")  # put back after the test

    def run(name, *arguments):
        path = ROOT / "tools" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"tools_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        module.main()

    return run


@pytest.fixture
def train_here(tool):
    """Function that runs tools/train.py in this process; several runs do not share a logger."""

    def run(config, work_dir, *arguments):
        name = str(work_dir)
        options = ["--cfg-options", f"visualizer.name={name}", f"experiment_name={name}"]
        tool("train", config, "--work-dir", work_dir, *arguments, *options)

    return run


def run_process(*command, timeout=300):
    """Run a command from the repository with the toy task importable."""
    path = os.pathsep.join([str(ROOT), str(TASK), os.environ.get("PYTHONPATH", "")])
    environment = dict(os.environ, PYTHONPATH=path, PYTHON=sys.executable, OMP_NUM_THREADS="1")
    return subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=environment,
        timeout=timeout,
        capture_output=True,
        text=True,
    )


@pytest.fixture(name="run_process")
def run_process_fixture():
    return run_process


@pytest.fixture
def logged_losses():
    """Function that reads the losses by iteration that the runs in a work directory logged."""

    def read(work_dir):
        losses = {}
        for path in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
            entries = map(json.loads, path.read_text().splitlines())
            losses.update({entry["step"]: entry["loss"] for entry in entries if "loss" in entry})
        return losses

    return read
