"""What every benchmark needs: options, turns on a clock, a process of its own, a table."""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

from mmvis_plugin.config import load_config, remove_pretrained

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import command_line
from command_line import add_option, make_parser, positive, say, whole  # noqa: F401 (for the scripts)
from peak_memory import MEGABYTE, peak_memory, reset_peak_memory  # noqa: F401


class Seconds(NamedTuple):
    """Time of a run: on the clock, and of the processor in all threads."""

    wall: float
    processor: float


def timed(run: Callable[[], Any], device: torch.device | str = "cpu") -> tuple[Seconds, Any]:
    """Time of a call, until a GPU has done what it was given, and what the call returns."""
    synchronize(device)
    start = time.perf_counter(), time.process_time()
    result = run()
    synchronize(device)
    seconds = Seconds(time.perf_counter() - start[0], time.process_time() - start[1])
    return seconds, result


def combine(times: Sequence[Seconds], how: Callable = statistics.median) -> Seconds:
    """The median, or another figure, of each kind of time."""
    return Seconds(*map(how, zip(*times, strict=True)))


def in_turns(
    runs: Mapping[Any, Callable[[], Any]], repeats: int, device: torch.device | str, warmup: int = 0
) -> dict[Any, Seconds]:
    """Median times of calls that take turns, so that a busy machine slows all of them alike.

    Args:
        runs: The calls by name.
        repeats: Times that each is called and counts.
        device: Where they run.
        warmup: Calls of each before, which do not count.
    """
    rounds = [
        {name: timed(run, device)[0] for name, run in runs.items()} for _ in range(warmup + repeats)
    ]
    return {name: combine([times[name] for times in rounds[warmup:]]) for name in runs}


def synchronize(device: torch.device | str) -> None:
    """Wait for what a GPU has been given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def in_own_process(function: Callable, *args: Any) -> Any:
    """Call a function in a new process, since the peak of a process's memory never goes down.

    What the new process prints goes to the error stream: the standard output has the table.
    """
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        # Not a Pool, which waits for ever if the process is killed.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *args).result()
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table, each row as soon as it is measured."""
    widths = [max(len(heading), 9) for heading in headings]
    widths[0] = max(widths[0], 24)
    lines = chain([headings, ["-" * width for width in widths]], rows)
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        print(f"| {' | '.join(cells)} |", flush=True)


def untrained_model(config: str, **changes: Any) -> nn.Module:
    """The model of a config with random weights, always the same ones.

    Args:
        config: A file, or the name of a config that comes with the package.
        **changes: Settings of the model that differ from the config's.
    """
    cfg = load_config(config)
    remove_pretrained(cfg)
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(dict(cfg.model, **changes))


def random_frames(num_frames: int, size: Sequence[int], device: str) -> torch.Tensor:
    """(num_frames, 3, H, W) noise, ``size`` padded to multiples of 32 as for a model."""
    padded = [-(-side // 32) * 32 for side in size]
    return torch.randn(num_frames, 3, *padded, device=device)


def add_size(parser) -> None:
    """Add ``--size``: height and width of the frames."""
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        default=[360, 640],
        metavar=("HEIGHT", "WIDTH"),
        help="size of the frames in pixels (default: 360 640)",
    )


def add_device(parser) -> None:
    """Add ``--device``: a GPU if there is one."""
    command_line.add_device(parser)
    parser.set_defaults(device="cuda" if torch.cuda.is_available() else "cpu")
