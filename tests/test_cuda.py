"""On a GPU: every method gives the tracks of the CPU, and predicts and trains under autocast."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from pycocotools import mask as mask_utils
from scripts import SHAPES_VERSION
from segmenting import SegmentedVideo

from mmvis_plugin.apis import build_video_segmentor
from mmvis_plugin.checkpoint import load_checkpoint_safely
from mmvis_plugin.datasets.shapes_vis import generate_video, make_shapes_vis
from mmvis_plugin.ytvis.categories import SHAPES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

ROOT = Path(__file__).resolve().parents[1]
METHODS = [
    "maskprop",
    "stmask",
    "efficientvis",
    "seqformer",
    "mssts",
    "masktrack_rcnn",
    "mask2former_vis",
]
each_method = pytest.mark.parametrize("method", METHODS)


def config_of(method):
    folder = "mssts" if method == "seqformer" else method
    return ROOT / "configs" / folder / f"{method}_r18_shapes.py"


@pytest.fixture(autouse=True)
def full_float32():
    """No TensorFloat-32, which a comparison with the CPU cannot allow for."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def build(method, device):
    """The model with its shipped weights, else with what its training starts from and seed 0."""
    torch.manual_seed(0)
    model = build_video_segmentor(config_of(method), device=device, require_weights=False)
    if not model.weights:
        untrained = MODELS.build(model.cfg.model)
        untrained.init_weights()
        model.load_state_dict(untrained.state_dict())
    return model


def frames(count=12):
    return generate_video(7, "valid", 0, (24, 24), (96, 128), len(SHAPES), SHAPES_VERSION).frames[
        :count
    ]


def segmented(model):
    return [result.pred_track_instances for _, result in SegmentedVideo(model, frames())]


@each_method
def test_gives_what_the_cpu_gives(method):
    on_cpu = build(method, "cpu")
    on_gpu = build(method, "cuda")
    on_gpu.load_state_dict(on_cpu.state_dict())
    on_cpu, on_gpu = segmented(on_cpu), segmented(on_gpu)
    assert any(len(instances) for instances in on_cpu)
    for expected, found in zip(on_cpu, on_gpu, strict=True):
        found = found.cpu()
        assert torch.equal(found.instances_id, expected.instances_id)
        assert torch.equal(found.labels, expected.labels)
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.bboxes, expected.bboxes, atol=1e-2, rtol=1e-4)
        for ours, theirs in zip(found.masks, expected.masks, strict=True):
            differing = mask_utils.decode(ours) != mask_utils.decode(theirs)
            assert differing.sum() <= max(2, 0.005 * mask_utils.area(theirs))


def test_a_frame_without_objects():
    model = build("maskprop", "cuda")
    plain = np.full((96, 128, 3), 90, np.uint8)
    for _, result in SegmentedVideo(model, [plain, plain]):
        assert len(result.pred_track_instances) == 0


@each_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_predicts_under_autocast(method, dtype):
    model = build(method, "cuda")
    with torch.autocast("cuda", dtype=dtype):
        results = segmented(model)
    assert len(results) == 12 and any(map(len, results))
    for instances in results:
        assert instances.scores.isfinite().all() and instances.bboxes.isfinite().all()
        for mask in instances.masks:
            assert np.array_equal(mask["size"], (96, 128))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes_vis"
    make_shapes_vis(root, 4, 1, length=(24, 24), version=SHAPES_VERSION)
    return root


@each_method
def test_trains_under_autocast(method, shapes, tmp_path):
    """The tool itself, with --amp: losses and weights stay finite, and every part learns."""
    command = [sys.executable, "tools/train.py", config_of(method), "--amp", "--no-pretrained"]
    command += ["--data-root", shapes, "--work-dir", tmp_path, "--cfg-options"]
    command += ["train_cfg.max_iters=12", "train_cfg.val_interval=100"]
    command += ["default_hooks.logger.interval=1", "default_hooks.checkpoint.interval=6"]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (log,) = tmp_path.glob("*/vis_data/scalars.json")
    records = map(json.loads, log.read_text().splitlines())
    losses = [record["loss"] for record in records if "loss" in record]
    assert len(losses) == 12 and np.isfinite(losses).all()
    before, after = (
        load_checkpoint_safely(tmp_path / f"iter_{n}.pth")["state_dict"] for n in (6, 12)
    )
    assert all(value.isfinite().all() for value in after.values())
    # Steps whose gradients are not finite are left out, without a word, and change no parameter;
    # running statistics change all the same.
    learned = {name for name in after if name.endswith((".weight", ".bias"))}
    changed = {name for name in learned if not torch.equal(before[name], after[name])}
    parts = [{name.split(".")[0] for name in names} for names in (changed, learned)]
    assert parts[0] == parts[1]
