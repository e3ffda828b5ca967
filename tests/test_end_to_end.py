"""The commands of the README, on a dataset of three small videos."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from scripts import SHAPES_VERSION

from mmvis_plugin.apis import VideoReader
from mmvis_plugin.checkpoint import load_checkpoint_safely

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/maskprop/maskprop_r18_shapes.py"


def command(*arguments) -> str:
    """Run a tool as a user does; return what it printed."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A generated dataset and the work directory of a training of two iterations."""
    root = tmp_path_factory.mktemp("end_to_end")
    data = root / "shapes_vis"
    command(
        "tools/dataset_converters/make_shapes_vis.py",
        *("--out", data, "--videos", 2, 1, "--length", 24, 24, "--version", SHAPES_VERSION),
    )
    output = command(
        "tools/train.py",
        CONFIG,
        *("--work-dir", root / "run", "--data-root", data, "--no-pretrained"),
        "--cfg-options",
        "train_cfg.max_iters=2",
        "train_cfg.val_interval=2",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "default_hooks.logger.interval=1",
    )
    assert "loss_prop" in output
    assert "ytvis/AP" in output  # validation after the last iteration
    checkpoint = load_checkpoint_safely((root / "run/last_checkpoint").read_text().strip())
    assert checkpoint["meta"]["dataset_meta"]["dataset_version"] == SHAPES_VERSION
    return data, root / "run"


def test_testing_writes_results_and_videos(trained, tmp_path):
    data, run = trained
    command(
        "tools/test.py",
        CONFIG,
        (run / "last_checkpoint").read_text().strip(),
        *("--work-dir", tmp_path, "--data-root", data),
        *("--out", tmp_path / "results.json", "--show-dir", tmp_path / "videos"),
        "--cfg-options",
        "model.detector.test_cfg.rcnn.score_thr=0.0",
        "model.detector.test_cfg.rcnn.max_per_img=3",
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results
    for entry in results:
        assert set(entry) == {"video_id", "category_id", "score", "segmentations"}
        assert len(entry["segmentations"]) == 24
        assert any(entry["segmentations"])
    (archive,) = tmp_path.glob("*.zip")
    with zipfile.ZipFile(archive) as content:
        assert json.loads(content.read("results.json")) == results
    (video,) = (tmp_path / "videos").iterdir()
    with VideoReader(video) as reader:
        assert reader.size == (384, 288)  # small frames are enlarged, so that labels fit
        assert sum(1 for _ in reader) == 24


def test_demo_writes_a_frame_for_each_frame(trained, tmp_path):
    data, run = trained
    (frames,) = (data / "valid/JPEGImages").iterdir()
    checkpoint = (run / "last_checkpoint").read_text().strip()
    output = command(
        "demo/video_demo.py", frames, CONFIG, checkpoint, "--out", tmp_path / "t.mp4", "--fps", 12
    )
    assert "24 frames of 128 x 96 at 12.000 frames/s" in output
    with VideoReader(tmp_path / "t.mp4") as reader:
        assert reader.fps == 12
        assert sum(1 for _ in reader) == 24
