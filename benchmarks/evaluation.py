"""Compare evaluate_ytvis with MMDetection's YTVISeval: figures, time and memory.

Both score the same synthetic results, each in a process of its own, whose JSON files are read
before the clock starts. Time is the processor's, so that other processes on the machine do not
count; memory is the most that the process held, the loaded files included.

A run prints the ratio of the times and the largest difference of any figure.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from measure import peak_memory, reset_peak_memory
from synthetic import Scene, make_annotations, make_results

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
EXAMPLE = """example:
  PYTHONPATH=. python benchmarks/evaluation.py --videos 300 --tracks 15 100
  PYTHONPATH=. python benchmarks/evaluation.py --cases 1000   # random cases, figures only
"""


def ours(gt: dict, results: list[dict]) -> dict:
    """Give the figures of evaluate_ytvis."""
    from mmvis_plugin.evaluation import evaluate_ytvis

    stats = evaluate_ytvis(gt, results)
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


EVALUATORS = {"mmvis_plugin": ours, "mmdet": mmdet}


def measure(name: str, folder: Path, repeats: int) -> dict:
    """Time one evaluator on the files of a folder, in this process."""
    evaluate = EVALUATORS[name]
    small = Scene(videos=2, frames=3, classes=2, objects=2, height=60, width=80)
    gt = make_annotations(small)
    evaluate(gt, make_results(gt, small, 3))  # imports, and compiles what is compiled
    seconds, peaks = [], []
    for _ in range(repeats):
        gt = json.loads((folder / "gt.json").read_text())
        results = json.loads((folder / "results.json").read_text())
        reset_peak_memory()
        start = time.process_time()
        figures = evaluate(gt, results)
        seconds.append(time.process_time() - start)
        peaks.append(peak_memory())
    return {"seconds": seconds, "peak_mb": peaks, "figures": figures}


def compare(scene: Scene, tracks: int, repeats: int) -> dict:
    """Time both evaluators on results of some tracks per video."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gt = make_annotations(scene)
        (folder / "results.json").write_text(json.dumps(make_results(gt, scene, tracks)))
        for annotation in gt["annotations"]:
            del annotation["blobs"]
        (folder / "gt.json").write_text(json.dumps(gt))
        del gt
        outcome = {}
        for evaluator in EVALUATORS:
            command = [sys.executable, __file__, "--child", evaluator, name, str(repeats)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            outcome[evaluator] = json.loads(output.splitlines()[-1])
    return outcome


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
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--tracks", type=int, nargs="+", default=[15, 100], help="per video")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of them counts")
    parser.add_argument("--cases", type=int, help="compare figures on random cases instead")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, folder, repeats = args.child
        print(json.dumps(measure(name, Path(folder), int(repeats))))
        return
    if args.cases:
        random_cases(args.cases)
        return
    scene = Scene(videos=args.videos, frames=args.frames)
    print(f"{scene}, CPU seconds: the fastest of {args.repeats}")
    print(f"{'tracks':>7} {'evaluator':>13} {'seconds':>8} {'peak MB':>8} {'faster':>7}")
    for tracks in args.tracks:
        outcome = compare(scene, tracks, args.repeats)
        slowest = min(outcome["mmdet"]["seconds"])
        for name, result in outcome.items():
            seconds, peak = min(result["seconds"]), max(result["peak_mb"])
            print(f"{tracks:7} {name:>13} {seconds:8.2f} {peak:8.0f} {slowest / seconds:6.1f}x")
        difference = largest_difference(*(result["figures"] for result in outcome.values()))
        print(f"        largest difference of any figure {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
