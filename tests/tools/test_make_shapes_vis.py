"""make_shapes_vis.py as a program: how it ends, and what it prints."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

SECONDS = 60


def children(pid: int) -> list[int]:
    """Processes that a process has started and that run."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def wait_for(condition) -> bool:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_its_processes_too(start, tmp_path, number):
    out = tmp_path / "data"
    tool = start(sys.executable, "tools/dataset_converters/make_shapes_vis.py", "--out", out)
    assert wait_for(lambda: any(tmp_path.glob(".data.*/train/JPEGImages/*/*.jpg")))
    workers = children(tool.pid)
    assert len(workers) == os.cpu_count()
    os.kill(tool.pid, number)
    assert tool.wait(timeout=SECONDS) == (128 + number if number == signal.SIGTERM else -number)
    assert wait_for(lambda: not any(map(runs, workers)))
    assert not out.exists()
    if number == signal.SIGTERM:
        assert "stopped by SIGTERM" in tool.log.read_text()
        assert not any(tmp_path.glob(".data.*"))


def test_what_it_prints_to_a_file_is_short(start, tmp_path):
    out = tmp_path / "data"
    script = ["tools/dataset_converters/make_shapes_vis.py", "--out", out, "--version", 1]
    tool = start(sys.executable, *script, "--videos", 3, 2, "--length", 24, 24)
    assert tool.wait(timeout=600) == 0, tool.log.read_text()
    printed = tool.log.read_text().splitlines()
    assert printed[-2:] == [f"train: {out}/train.json", f"valid: {out}/valid.json"]
    steps = [line for line in printed if line.startswith("writing")]
    assert len(steps) <= 7 and "\r" not in tool.log.read_text()  # each video, and the ends
    assert (out / "valid/JPEGImages/valid_0001/00023.jpg").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--videos", 1, 2, 3], "--videos takes one or two numbers"),
        (["--videos", 0], "argument --videos: '0' is not a whole number of 1 or more"),
        (["--version", 3], "argument --version: invalid choice: 3"),
    ],
)
def test_wrong_options_are_one_line(tool, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        tool("dataset_converters/make_shapes_vis", "--out", tmp_path / "x", *options)
    assert stop.value.code
    assert message in capsys.readouterr().err
