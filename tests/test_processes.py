"""Idle cores, and children that end with their parent."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from mmvis_plugin import distributed, processes
from mmvis_plugin.processes import idle_cores, usable_cores

CHILD = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import processes
parent = os.getpid()
if os.fork() == 0:
    processes.end_with_parent(parent)
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_child_ends_when_its_parent_is_killed():
    folder = os.path.dirname(processes.__file__)
    parent = subprocess.Popen([sys.executable, "-c", CHILD, folder], stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 5
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_idle_cores_are_those_that_the_counters_say(monkeypatch):
    """Of four cores this process may use three; one is busy, one is busy for a quarter."""
    before = "cpu 9 9 9 9\n" + "".join(f"cpu{n} 0 0 0 0 0 0 0 0\n" for n in range(4))
    after = (
        "cpu 9 9 9 9\ncpu0 0 0 0 80 20 0 0 0\ncpu1 90 0 10 0 0 0 0 0\n"
        "cpu2 20 5 0 75 0 0 0 0\ncpu3 0 0 0 100 0 0 0 0\n"
    )
    texts = {"/proc/stat": iter([before, after]), "/sys/fs/cgroup/cpu.max": iter(["max 100000"])}
    monkeypatch.setattr(processes.Path, "read_text", lambda path: next(texts[str(path)]))
    monkeypatch.setattr(processes, "usable_cores", lambda: {0, 1, 2})
    assert idle_cores(0) == pytest.approx(1 + 0 + 0.75)


def test_a_container_may_use_less_than_is_idle(monkeypatch):
    monkeypatch.setattr(processes, "_idle_ticks", lambda cores: [])
    monkeypatch.setattr(processes.Path, "read_text", lambda path: "150000 100000")
    monkeypatch.setattr(processes, "usable_cores", lambda: {0, 1, 2, 3})
    assert idle_cores(0) == 1.5


def test_a_busy_core_is_not_idle():
    busy = [sys.executable, "-c", "while True: pass"]
    loads = [subprocess.Popen(busy) for _ in usable_cores()]
    try:
        time.sleep(0.5)
        assert idle_cores(0.5) < len(loads) / 2
    finally:
        for load in loads:
            load.kill()
            load.wait()


@pytest.fixture
def threads(monkeypatch):
    """Function that gives the number of threads and the log's line for so many idle cores."""
    before = torch.get_num_threads()

    def use(idle, started=4):
        torch.set_num_threads(started)
        monkeypatch.setattr(distributed, "idle_cores", lambda: idle)
        line = distributed.use_idle_cores.__wrapped__()
        return torch.get_num_threads(), line

    yield use
    torch.set_num_threads(before)


def test_pytorch_takes_the_idle_cores(threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads(3.9)[0] == 4
    assert threads(64.0)[0] == 4  # PyTorch's own number is the most
    assert threads(1.2)[0] == 1
    number, line = threads(0.1)
    assert number == 1 and "PyTorch threads: 1, since 0.1 of" in line


def test_the_number_that_the_user_chose_stays(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    number, line = threads(0.1, started=3)
    assert number == 3 and line == "PyTorch threads: 3, set by OMP_NUM_THREADS"


@pytest.mark.parametrize("chosen, expected", [(None, 2), ("5", 5)])
def test_a_resumed_run_keeps_its_threads_unless_the_user_chooses(
    threads, monkeypatch, chosen, expected
):
    """Sums are taken in another order by another number of threads."""
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    else:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(5)
    distributed.keep_threads(2)
    assert torch.get_num_threads() == expected
    distributed.keep_threads(None)  # a checkpoint that does not say
    assert torch.get_num_threads() == expected
