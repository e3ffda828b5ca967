"""Trainings that are killed at random points: each resume goes on by itself, and as if unharmed.

``--kills 20`` kills more often than the default.
"""

import builtins
import json
import os
import random
import re
import resource
import signal
import sys
import time
from pathlib import Path

import pytest
from scripts import load_script

OPTIONS = """
train_cfg = dict(max_iters={iterations}, val_begin=10000)
default_hooks["checkpoint"] = dict(interval=2, max_keep_ckpts=2)
"""


class HalfWriter:
    """A file of which half of the data reaches the disk before the process is killed."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def kill_at_write(count):
    """Kill this process halfway through its ``count``-th file of checkpoints from now on."""
    original = builtins.open

    def counting(path, mode="r", *args, **kwargs):
        nonlocal count
        file = original(path, mode, *args, **kwargs)
        name = Path(path).name if isinstance(path, str | os.PathLike) else ""
        if "w" in mode and (name.endswith(".pth") or name == "last_checkpoint"):
            count -= 1
            return HalfWriter(file) if count == 0 else file
        return file

    builtins.open = counting


@pytest.fixture
def fork(tmp_path):
    """Function that trains in a forked process, a session of its own, and gives its number."""
    started = []

    def run(config, work_dir, *options, prepare=lambda: None):
        name = f"{work_dir}/{len(started)}"
        pid = os.fork()
        if pid:
            started.append(pid)
            return pid
        code = 1
        try:
            os.setsid()
            log = os.open(tmp_path / "kills.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            sys.stdout = sys.stderr = open(1, "w", buffering=1)  # noqa: SIM115
            names = ["--cfg-options", f"visualizer.name={name}", f"experiment_name={name}"]
            arguments = [config, "--work-dir", work_dir, *options, *names]
            sys.argv = ["train.py", *map(str, arguments)]
            train = load_script("tools/train.py")
            prepare()
            train.run(train.main, train.ERRORS)
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            os._exit(code)

    return run


def session_of(pid):
    """Processes of a session."""
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats.append((path.parent.name, path.read_text().rpartition(")")[2].split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [name for name, fields in stats if fields[3] == str(pid) and fields[0] != "Z"]


def entries(work_dir):
    """What each run logged: (iteration, loss, gradient norm)."""
    for path in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
        for line in path.read_text().split("\n")[:-1]:  # the last one may not be whole
            entry = json.loads(line)
            if "loss" in entry:
                yield entry["step"], entry["loss"], entry["grad_norm"]


def wait_and_kill(pid, work_dir, iterations):
    """Kill a process once it has logged so many iterations more, unless it kills itself before."""
    goal = len(list(entries(work_dir))) + iterations
    deadline = time.monotonic() + 120
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline
        if len(list(entries(work_dir))) >= goal:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.002)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_a_training_in_one_line(toy_config, fork, tmp_path, name):
    """Ctrl-C reaches the workers of the data loader as well."""
    number, log = getattr(signal, name), tmp_path / "kills.log"
    pid = fork(toy_config(OPTIONS.format(iterations=10000)), tmp_path / "run")
    deadline = time.monotonic() + 120
    while len(list(entries(tmp_path / "run"))) < 5:  # until all workers have started
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    os.killpg(pid, number) if number == signal.SIGINT else os.kill(pid, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    *before, last = log.read_text().splitlines()
    assert code == 128 + number and last == f"stopped by {'Ctrl-C' if code == 130 else name}"
    assert "Traceback" not in log.read_text(), before[-20:]
    while session_of(pid):  # the system ends the workers a moment after their parent
        assert time.monotonic() < deadline, session_of(pid)
        time.sleep(0.01)


@pytest.mark.parametrize(
    "limit, message",
    [
        (2000, r"error: {run}/\S+/environment.txt cannot be written to: File too large"),
        (12000, "error: {run}/iter_2.pth cannot be written to: File too large"),
    ],
)
def test_a_full_disk_is_one_line_with_the_path(toy_config, fork, tmp_path, limit, message):
    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run, log = tmp_path / "run", tmp_path / "kills.log"
    config = toy_config(OPTIONS.format(iterations=2))
    assert os.waitpid(fork(config, run, prepare=limit_files), 0)[1] != 0
    assert re.search(f"^{message.format(run=run)}$", log.read_text(), re.MULTILINE)
    assert "Traceback" not in log.read_text() and "Logging error" not in log.read_text()
    assert not [*run.glob("*.pth"), *run.glob(".*.pth")]


def test_a_kill_while_the_only_checkpoint_is_replaced_loses_nothing(toy_config, fork, tmp_path):
    """MMEngine removes the old one before it writes the new one."""
    keep_one = 'default_hooks["checkpoint"]["max_keep_ckpts"] = 1\n'
    config = toy_config(OPTIONS.format(iterations=4) + keep_one)
    pid = fork(config, tmp_path / "run", prepare=lambda: kill_at_write(3))  # iter_4.pth
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "run").glob("iter_*.pth")] == ["iter_2.pth"]
    assert os.waitpid(fork(config, tmp_path / "run", "--resume"), 0)[1] == 0
    assert f"Resuming from {tmp_path}/run/iter_2.pth" in (tmp_path / "kills.log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="workers end with their parent on Linux")
def test_killed_trainings_go_on(toy_config, fork, tmp_path, pytestconfig):
    kills = pytestconfig.getoption("--kills")
    config = toy_config(OPTIONS.format(iterations=4 * kills + 4))
    log = tmp_path / "kills.log"
    assert os.waitpid(fork(config, tmp_path / "whole"), 0)[1] == 0, log.read_text()
    expected = {step: figures for step, *figures in entries(tmp_path / "whole")}
    assert len(expected) == 4 * kills + 4

    drawn = random.Random(0)
    for number in range(kills):
        writing = number % 2 == 0
        count = drawn.randint(1, 4)
        prepare = (lambda n=count: kill_at_write(n)) if writing else lambda: None
        pid = fork(config, tmp_path / "killed", "--resume", prepare=prepare)
        wait_and_kill(pid, tmp_path / "killed", 1000 if writing else drawn.randint(1, 5))
        deadline = time.monotonic() + 5
        while left := session_of(pid):
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.01)
    pid = fork(config, tmp_path / "killed", "--resume")
    assert os.waitpid(pid, 0)[1] == 0, log.read_text()[-5000:]

    reached = {}
    for step, *figures in entries(tmp_path / "killed"):
        assert figures == expected[step], step
        reached[step] = figures
    # A line of the log that was being written may be lost with its process.
    assert len(reached) >= len(expected) - kills and max(reached) == max(expected)
    left = {path.name for path in (tmp_path / "killed").iterdir() if path.name.startswith(".")}
    assert not left, log.read_text()
    assert log.read_text().count("stopped before it finished") == kills
