"""Runs the tools on malformed inputs: a result or one line that names the fault, within bounds."""

import csv
import json
import os
import resource
import runpy
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import av
import cv2
import torch
import toy_task  # noqa: F401 (imported once, not by each case)
from malformed import GoodInputs, make_case
from toy_config import write_toy_config

ROOT = Path(__file__).resolve().parents[1]
MAX_SECONDS = 10  # of a core
MAX_WAIT = 60  # seconds, on a machine that does other things
MAX_LETTERS = 1500
MAX_MEMORY = 2 * 2**30  # bytes

TRAIN_OPTIONS = """
train_cfg = dict(max_iters=2, val_begin=10000)
param_scheduler = [dict(type="LinearLR", start_factor=0.5, by_epoch=False, begin=0, end=2)]
train_dataloader.update(num_workers=0, persistent_workers=False)
"""


def run_script(command, log, work_dir):
    """Run a script as from the command line in this forked process, and end it."""
    code = 70
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1), os.dup2(target, 2)
        sys.stdout, sys.stderr = (open(n, "w", buffering=1) for n in (1, 2))  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_CPU, (2 * MAX_SECONDS, 2 * MAX_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.setsid()
        os.chdir(work_dir)
        torch.set_num_threads(1)
        path = ROOT / command[0]
        sys.argv = [str(path), *command[1:]]
        sys.path.insert(0, str(path.parent))
        try:
            runpy.run_path(str(path), run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code
            if code is not None and not isinstance(code, int):
                print(code, file=sys.stderr)
                code = 1
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code or 0)


def wait_for(pid):
    """Exit code of a child (below 0: a signal), seconds of a core, and its peak of memory."""
    deadline = time.monotonic() + MAX_WAIT
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.01)


def whole(path):
    """Whether a file is what its name says."""
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".csv":
        return len(list(csv.reader(path.open()))) > 0
    elif path.suffix == ".mp4":
        with av.open(str(path)) as film:
            return sum(1 for _ in film.decode(video=0)) > 0
    elif path.suffix == ".png":
        return cv2.imread(str(path)) is not None
    elif path.suffix == ".pth":
        torch.load(path, weights_only=True)
    return True


def faults(case, code, seconds, memory, log):
    """What is wrong with the end of a command."""
    lines = log.strip().splitlines() or [""]
    if "Traceback" in log or code in (70, -signal.SIGABRT):
        yield "traceback"
    elif code < 0:
        yield f"ended by signal {-code}"
    elif code and not any(word in line for word in case.faulty for line in lines[-3:]):
        yield f"no word of {case.faulty}"
    elif (
        code and case.command[0] != "tools/analysis_tools/check_ytvis.py" and len(lines[-1]) > 1500
    ):
        yield f"a line of more than {MAX_LETTERS} letters"
    if seconds > MAX_SECONDS:
        yield f"{seconds:.0f} s"
    if memory > MAX_MEMORY:
        yield f"{memory / 2**30:.1f} GB"
    for path in case.out.rglob("*"):
        if path.name.startswith("."):
            yield f"{path.name} is left"
        elif path.is_file() and not whole(path):
            yield f"{path.name} is not whole"


def run_campaign(first, count, folder):
    """Try cases; each runs in a fork of this process.

    PyTorch's and OpenCV's threads do not survive a fork: call it in a process of its own, in which
    none of them has run.

    Args:
        first (int): Number of the first case.
        count (int): How many to try.
        folder (Path): Where their files go.

    Returns:
        list[str]: What went wrong.
    """
    good = GoodInputs(folder, write_toy_config(folder / "toy.py", TRAIN_OPTIONS))
    return [fault for number in range(first, first + count) for fault in run_case(number, good)]


def run_case(number, good):
    folder = good.root / str(number)
    (folder / "out").mkdir(parents=True)
    case = make_case(number, good, folder)
    log = folder / "log.txt"
    pid = os.fork()
    if not pid:
        run_script(case.command, log, folder)
    for fault in faults(case, *wait_for(pid), log.read_text(errors="replace")):
        yield f"case {number}: {fault}: {' '.join(case.command)}\n    {last_line(log)}"


def last_line(log):
    return (log.read_text(errors="replace").strip().splitlines() or [""])[-1][:300]
