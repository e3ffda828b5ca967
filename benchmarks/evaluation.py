"""Compare evaluate_ytvis with MMDetection's YTVISeval: figures, time and memory.

Both score the same synthetic results, each in a process of its own, whose JSON files are read
before the clock starts; what numba compiles is compiled, too. CPU seconds are those of all threads,
and other processes on the machine do not count in them; wall seconds are what one waits, on an idle
machine. Memory is the most that the process held, the loaded files included.

A run prints the ratios of the times and the largest difference of any figure. MMDetection's code
has one thread; evaluate_ytvis is measured with one and with two.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import harness
import numpy as np
from synthetic import Scene, make_annotations, make_results, write_scene

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
EXAMPLE = """example:
  python benchmarks/evaluation.py --videos 300 --tracks 15 100
  python benchmarks/evaluation.py --cases 1000   # random cases, figures only
"""


def ours(gt: dict, results: list[dict], num_threads: int = 1) -> dict:
    """Give the figures of evaluate_ytvis."""
    from mmvis_plugin.evaluation import evaluate_ytvis

    stats = evaluate_ytvis(gt, results, num_threads=num_threads)
    return {name: stats[name] for name in FIGURES} | {
        f"AP of {name}": figures["AP"] for name, figures in stats["per_class"].items()
    }


def mmdet(gt: dict, results: list[dict]) -> dict:
    """Give the figures of MMDetection's YTVISeval. Both arguments are changed."""
    from mmdet.evaluation.functional import YTVIS, YTVISeval

    # MMDetection 3.3's YTVISeval says np.float, which NumPy has removed.
    old_numpy = mock.patch.object(np, "float", float, create=True)
    with contextlib.redirect_stdout(io.StringIO()), old_numpy:
        api = YTVIS(gt)
        evaluator = YTVISeval(api, api.loadRes(results), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    class_ap = evaluator.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))
    names = [category["name"] for category in sorted(gt["categories"], key=lambda c: c["id"])]
    return dict(zip(FIGURES, evaluator.stats.tolist(), strict=False)) | {
        f"AP of {name}": float(ap) for name, ap in zip(names, class_ap, strict=True)
    }


EVALUATORS = {
    "mmdet": mmdet,
    "mmvis_plugin": ours,
    "2 threads": functools.partial(ours, num_threads=2),
}


def measure(name: str, folder: Path, repeats: int) -> tuple[harness.Seconds, float, dict]:
    """Fastest times of an evaluator on the files of a folder, its peak in MB and its figures."""
    evaluate = EVALUATORS[name]
    small = Scene(videos=2, frames=3, classes=2, objects=2, height=60, width=80)
    gt = make_annotations(small)
    evaluate(gt, make_results(gt, small, 3))  # imports, and compiles what is compiled
    times, peaks = [], []
    for _ in range(repeats):
        gt = json.loads((folder / "gt.json").read_text())
        results = json.loads((folder / "results.json").read_text())
        harness.reset_peak_memory()
        seconds, figures = harness.timed(functools.partial(evaluate, gt, results))
        times.append(seconds)
        peaks.append(harness.peak_memory() / harness.MEGABYTE)
    return harness.combine(times, min), max(peaks), figures


def compare(scene: Scene, tracks: int, repeats: int) -> Iterator[list[str]]:
    """Rows of the table: the evaluators on results of some tracks per video."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scene(folder, scene, tracks)
        first = None
        for evaluator in EVALUATORS:
            seconds, peak, figures = harness.in_own_process(measure, evaluator, folder, repeats)
            first = first or (seconds, figures)  # MMDetection's
            yield [
                f"{tracks}: {evaluator}",
                f"{seconds.processor:.2f}",
                f"{first[0].processor / seconds.processor:.1f}x",
                f"{seconds.wall:.2f}",
                f"{first[0].wall / seconds.wall:.1f}x",
                f"{peak:.0f}",
                f"{largest_difference(figures, first[1]):.1e}",
            ]


def largest_difference(figures: dict, others: dict) -> float:
    """Give the largest difference between two dicts of the same figures."""
    return max(abs(figures[name] - others[name]) for name in figures)


def random_cases(count: int) -> None:
    """Compare the figures on small random cases with everything the protocol has a rule for."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "evaluation"))
    from ytvis_cases import random_case

    worst, compared, seed = 0.0, 0, 0
    while compared < count:
        gt, results = random_case(seed)
        if gt["annotations"] and results:
            worst = max(worst, largest_difference(ours(gt, results), mmdet(gt, results)))
            compared += 1
        seed += 1
    print(f"{compared} random cases: largest difference of any figure {worst:.1e}")
    if worst > 1e-9:
        sys.exit("the figures differ")


def main() -> None:
    parser = harness.make_parser(__doc__, EXAMPLE)
    harness.add_option(parser, "--videos", harness.positive, "N", "videos of the dataset", 300)
    harness.add_option(parser, "--frames", harness.positive, "N", "frames of a video", 25)
    parser.add_argument(
        "--tracks",
        type=harness.positive,
        nargs="+",
        default=[15, 100],
        metavar="N",
        help="results of a video, each number measured by itself (default: 15 100)",
    )
    harness.add_option(
        parser, "--repeats", harness.positive, "N", "runs of each; the fastest counts", 3
    )
    harness.add_option(
        parser, "--cases", harness.positive, "N", "compare only the figures, on N random cases"
    )
    args = parser.parse_args()
    if args.cases:
        random_cases(args.cases)
        return
    scene = Scene(videos=args.videos, frames=args.frames)
    print(f"{scene}: the fastest of {args.repeats}")
    harness.print_table(
        ["results: evaluator", "CPU s", "faster", "wall s", "faster", "peak MB", "difference"],
        (row for tracks in args.tracks for row in compare(scene, tracks, args.repeats)),
    )


if __name__ == "__main__":
    main()
