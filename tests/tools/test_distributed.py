"""Two processes on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

from mmvis_plugin.config import remove_pretrained
from mmvis_plugin.engine import iteration_seed, seed_generators

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/maskprop/maskprop_r18_shapes.py"
RECORDED = f"""
_base_ = "{ROOT}/{CONFIG}"
custom_imports = dict(imports=["mmvis_plugin", "toy_task"], allow_failed_imports=False)
custom_hooks = [dict(type="IterationSeedHook"), dict(type="RecordHook", folder="{{folder}}")]
train_dataloader = dict(batch_size=1)
train_cfg = dict(max_iters=2, val_begin=100)
optim_wrapper = dict(clip_grad=None)
"""


@pytest.fixture
def one_thread():
    """As in the processes: with more, sums are taken in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_gradient_is_the_mean_of_both_halves(finish, shapes, tmp_path):
    """And the parameters stay the same in both processes."""
    config = tmp_path / "recorded.py"
    config.write_text(RECORDED.format(folder=tmp_path))
    options = [
        "--no-pretrained",
        "--seed",
        5,
        "--data-root",
        shapes,
        "--work-dir",
        tmp_path / "run",
    ]
    finish("tools/dist_train.sh", config, 2, *options)

    register_all_modules()
    cfg = Config.fromfile(ROOT / CONFIG)
    remove_pretrained(cfg)
    model = MODELS.build(cfg.model).train()
    for iteration in range(2):
        # Written by this test: not weights only.
        paths = [tmp_path / f"iter{iteration}_rank{rank}.pth" for rank in range(2)]
        records = [torch.load(path, weights_only=False) for path in paths]
        halves = [half_gradient(model, record, iteration, r) for r, record in enumerate(records)]
        for name in records[0]["after"]:
            assert torch.equal(records[0]["after"][name], records[1]["after"][name]), name
        assert records[0]["gradients"].keys() == halves[0].keys()
        for name, gradient in records[0]["gradients"].items():
            mean = (halves[0][name] + halves[1][name]) / 2
            torch.testing.assert_close(gradient, mean, rtol=1e-5, atol=1e-5)
        assert any(not torch.allclose(halves[0][n], halves[1][n], atol=1e-3) for n in halves[0])


def half_gradient(model, record, iteration, rank):
    """Gradient of one process's batch, computed in this process alone."""
    model.load_state_dict(record["before"])
    model.zero_grad()
    seed_generators(iteration_seed(5, iteration, rank))
    data = model.data_preprocessor(record["batch"], training=True)
    loss, _ = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_testing_gives_the_results_of_one_process(finish, shapes, tmp_path):
    """Three videos in two processes; without a score threshold any weights give tracks."""
    cfg = Config.fromfile(ROOT / CONFIG)
    remove_pretrained(cfg)
    register_all_modules()
    torch.manual_seed(0)
    checkpoint = tmp_path / "random.pth"
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), checkpoint)

    def options(name):
        threshold = "model.detector.test_cfg.rcnn.score_thr=0.0"
        arguments = ["--data-root", shapes, "--work-dir", tmp_path, "--out", tmp_path / name]
        return [*arguments, "--cfg-options", threshold]

    show = ["--show-dir", tmp_path / "show", "--show-score-thr", 0.0]
    finish(sys.executable, "tools/test.py", CONFIG, checkpoint, *show, *options("one.json"))
    finish("tools/dist_test.sh", CONFIG, checkpoint, 2, *options("two.json"))
    one, two = ((tmp_path / name).read_bytes() for name in ("one.json", "two.json"))
    assert one == two
    assert {track["video_id"] for track in json.loads(one)} == {1, 2, 3}
    assert len(list((tmp_path / "show").glob("*.mp4"))) == 3


@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh"])
def test_scripts_explain_themselves(script):
    command = [ROOT / "tools" / script, "--help"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert f"tools/{script} configs/" in result.stderr


@pytest.mark.parametrize("model", [["name"], ["c.py", "w.pth"]])
def test_test_takes_a_name_alone(model, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    command = [ROOT / "tools/dist_test.sh", *model, "2", "--out", "r.json"]
    env = {name: value for name, value in os.environ.items() if name != "NNODES"}
    result = subprocess.run(
        command, env=env | {"PYTHON": str(python)}, capture_output=True, text=True, check=True
    )
    call = result.stdout.splitlines()
    assert call[call.index("--nproc_per_node") + 1] == "2"
    assert call[-len(model) - 4 :] == [*model, "--launcher", "pytorch", "--out", "r.json"]


def test_a_missing_number_of_processes_is_told():
    command = [ROOT / "tools/dist_test.sh", "name", "w.pth", "--out", "r.json"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "PROCESSES" in result.stderr
