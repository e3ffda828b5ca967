"""tools/analysis_tools/benchmark.py on models whose figures are known."""

import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import fake_segmentor as fake
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from scripts import load_script
from torch import nn

from mmvis_plugin.apis import VideoReader, VISInferencer, build_video_segmentor
from mmvis_plugin.apis.model_run import ModelRun

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/analysis_tools/benchmark.py"
APIS = ROOT / "tests/apis"
CONFIG = "maskprop_r18_shapes"


benchmark = load_script("tools/analysis_tools/benchmark.py")


def run_tool(*arguments):
    """Run the tool as a user does: its processes import it anew."""
    path = os.pathsep.join([str(ROOT), str(APIS)])
    return subprocess.run(
        [sys.executable, TOOL, *map(str, arguments)],
        env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=600,
    )


def options(frames, **changed):
    """Options of ``measure`` as the command line gives them."""
    args = vars(benchmark.parse_args([CONFIG, "--device", "cpu", "--frames", str(frames)]))
    names = ("checkpoint", "device", "batch_size", "autocast", "channels_last", "cfg_options")
    return {name: args[name] for name in ("frames", *names)} | changed


@pytest.fixture
def video(tmp_path):
    benchmark.write_video(tmp_path / "shapes.mp4", (48, 80), 60)
    with VideoReader(tmp_path / "shapes.mp4") as reader:
        assert reader.size == (80, 48) and len(list(reader)) == 60
    return str(tmp_path / "shapes.mp4")


def test_command_on_several_configs(tmp_path):
    config, _ = fake.write_inputs(tmp_path)
    broken = tmp_path / "broken.py"
    broken.write_text("model = dict(type='Nothing')\n")
    out = tmp_path / "figures.json"
    arguments = ["--size", 48, 80, "--frames", 20, "--device", "cpu", "--out", out]
    result = run_tool(broken, config, *arguments)

    assert result.returncode == 1 and "Nothing" in result.stderr
    failed, row = json.loads(out.read_text())
    assert failed.keys() == {"config", "error"}
    assert row["config"] == str(config) and row["num_frames"] == 20
    table = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 1 and len({len(line) for line in table}) == 1


def test_config_whose_process_is_killed(monkeypatch, tmp_path):
    """As by a system that is out of memory: it is said, and the others are measured."""
    (tmp_path / "killed_process.py").write_text(
        "import os\n\n\ndef measure(config, video, options):\n"
        "    if config == 'large':\n        os.kill(os.getpid(), 9)\n"
        "    return {'config': config}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    killed_process = importlib.import_module("killed_process")
    monkeypatch.setattr(benchmark, "measure", killed_process.measure)
    args, reported = benchmark.parse_args([CONFIG]), []
    args.configs = ["a", "large", "b"]
    rows = benchmark.measure_all(args, "video.mp4", reported.append)
    assert rows == reported and [row["config"] for row in rows] == args.configs
    assert [row.get("error", "")[:22] for row in rows] == ["", "its process was killed", ""]


def test_names_of_configs_are_looked_up_first(capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_args(["masktrack_rcnn_r18_shapes", "maskprop_r18"])
    said = capsys.readouterr().err
    assert re.match("error: .*maskprop_r18: no such .*_r18_shapes", said)
    assert said.count("\n") == 1


def test_file_of_figures_that_cannot_be_written(monkeypatch, tmp_path, video):
    arguments = ["maskprop_r18_shapes", "--video", video, "--out"]
    monkeypatch.setattr(benchmark, "measure_all", lambda *_: [{"config": "x", "error": "y"}])
    with pytest.raises(OSError, match=f"^{tmp_path} is a folder: name a file to write$"):
        benchmark.main([*arguments, str(tmp_path)])

    def full(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="^the disk is full$"):
        benchmark.main([*arguments, str(tmp_path / "figures.json")])


@pytest.mark.parametrize("look_ahead, delay", [(0, 0.05), (5, 0.02)])
def test_figures(tmp_path, video, look_ahead, delay):
    config, _ = fake.write_inputs(tmp_path, look_ahead, delay=delay)
    row = benchmark.measure(str(config), video, options(20))

    assert row["config"] == str(config) and row["weights"] == "random"
    assert (row["num_frames"], row["size"], row["params"]) == (20, [48, 80], 1)
    assert row["input_size"] == [64, 64]  # resized to 38 x 64, padded to multiples of 32
    assert row["batch_size"] == 1 and row["mult_adds_per_frame"] == 0
    # Another process on the machine can only slow it down.
    assert 0 < row["total_fps"] < 1 / delay and 0 < row["model_fps"] < 1 / delay
    assert row["latency_frames"] == look_ahead
    assert row["latency_ms_max"] >= row["latency_ms_median"] >= 1000 * delay * (1 + look_ahead)
    assert row["peak_memory_mb"] > 100


def test_switches(tmp_path, video):
    config, checkpoint = fake.write_inputs(tmp_path)
    changed = dict(checkpoint=str(checkpoint), batch_size=3, autocast=True, channels_last=True)
    row = benchmark.measure(str(config), video, options(7, **changed))
    assert (row["weights"], row["num_frames"], row["batch_size"]) == ("trained", 7, 3)
    assert row["autocast"] and row["channels_last"]


def test_clock_stands_still_while_frames_are_read(tmp_path, monkeypatch):
    """Reading takes ten times as long as the model and must not count."""
    with VISInferencer(*fake.write_inputs(tmp_path, delay=0.01), device="cpu") as inferencer:
        prepare = ModelRun.prepare

        def slowly(*args):
            time.sleep(0.1)
            return prepare(*args)

        frames = [fake.make_frame(number) for number in range(10)]
        quick = benchmark.Stopwatch(inferencer, frames, 10, 1)
        monkeypatch.setattr(ModelRun, "prepare", slowly)
        slow = benchmark.Stopwatch(inferencer, frames, 10, 1)
    assert quick.seconds >= 0.1
    assert slow.seconds < 0.1 * 10
    assert slow.frames_waited == quick.frames_waited == [3] * 7 + [2, 1, 0]


@pytest.mark.parametrize("frames_per_call", [1, 4])
def test_multiply_adds_are_those_of_the_layers(tmp_path, frames_per_call):
    """What leads to a result through NumPy only counts too, as it does not in a trace."""

    @MODELS.register_module(name="ConvRedFinder", force=True)
    class ConvRedFinder(fake.RedFinder):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.fc = nn.Linear(8, 5)
            self.query, self.layer = nn.Parameter(torch.zeros(2)), nn.Identity()

        def step(self, state, frames, metas):
            self.layer(self.query[None])  # what learns goes into a module
            self.fc(self.conv(frames).mean((2, 3))).numpy()
            return super().step(state, frames, metas)

        def init_weights(self):
            pass

    config, _ = fake.write_inputs(tmp_path)
    cfg = Config.fromfile(config)
    cfg.model.type = "ConvRedFinder"
    model = build_video_segmentor(cfg, device="cpu", require_weights=False)
    inferencer = VISInferencer(model, batch_size=frames_per_call)
    frames = [fake.make_frame(number) for number in range(9)]
    per_frame = benchmark.count_mult_adds(inferencer, frames, 9)
    height = width = 64
    assert per_frame == 3 * 8 * 9 * (height // 2) * (width // 2) + 8 * 5


def test_arguments_that_make_no_sense(capsys):
    for arguments in (
        [],
        [CONFIG, "--frames", "0"],
        [CONFIG, "--size", "0", "4"],
        [CONFIG, "--batch-size", "-1"],
        [CONFIG, CONFIG, "--checkpoint", __file__],
        [CONFIG, "--video", "nothing.mp4"],
    ):
        with pytest.raises(SystemExit) as stop:
            benchmark.parse_args(arguments)
        assert stop.value.code == 2


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.parse_args(["--help"])
    assert stop.value.code == 0
    assert "python tools/analysis_tools/benchmark.py maskprop_r18_shapes" in capsys.readouterr().out
