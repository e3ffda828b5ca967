"""Show what goes wrong with mask tracks: what each kind of error costs, identities, HOTA.

The cost of a kind of error is the AP gained by correcting only its errors; the module
mmvis_plugin/evaluation/error_analysis.py defines the kinds.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from command_line import INPUT_ERRORS, add_option, existing, make_parser, progress, run, score

EXAMPLES = """examples:
  python tools/test.py configs/maskprop/maskprop_r18_shapes.py weights/maskprop_r18_shapes.pth \\
      --out results.json
  python tools/analysis_tools/analyze_errors.py results.json data/shapes_vis/valid.json \\
      --plot errors.png --json errors.json
"""
# Okabe and Ito's palette for colour-blind readers, and a marker for each where colour fails.
STYLES = {
    "classification": ("#0072B2", "o"),
    "segmentation": ("#009E73", "s"),
    "linking": ("#D55E00", "D"),
    "missed": ("#CC79A7", "^"),
    "duplicate": ("#E69F00", "v"),
    "background": ("#56B4E9", "P"),
    "other": ("#000000", "X"),
}


ERRORS = (*INPUT_ERRORS, "builtins.ImportError")  # without TrackEval


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("results", type=existing, help="results.json of tools/test.py --out")
    parser.add_argument("gt", type=existing, help="JSON of annotations in the YouTube-VIS format")
    add_option(parser, "--plot", str, "FILE.png", "draw the costs of the errors")
    add_option(parser, "--json", str, "FILE.json", "write all figures as JSON")
    parser.add_argument(
        "--thresholds",
        type=float,
        nargs="+",
        metavar="IOU",
        help="overlaps (IoU) from which a track is right (default: 0.5 to 0.95 in steps of 0.05, "
        "as in AP)",
    )
    add_option(
        parser,
        "--score-thr",
        score,
        "SCORE",
        "leave tracks of a lower score out of HOTA and the counts, which, unlike AP, take "
        "every track for equally sure; 0 is what trackeval does",
        0.0,
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmvis_plugin.evaluation import (
        analyze_errors,
        evaluate_tracking,
        load_ground_truth,
        load_results,
    )
    from mmvis_plugin.files import write_json

    def bar(what: str):
        return lambda items, total: progress(items, "part", total, what)

    gt = load_ground_truth(args.gt)
    tracks = load_results(args.results, gt)
    options = {} if args.thresholds is None else {"thresholds": args.thresholds}
    analysis = analyze_errors(gt, tracks, progress=bar("errors"), **options)
    tracking = evaluate_tracking(gt, tracks, args.score_thr, bar("tracking"))
    tables = error_table(analysis), hota_table(tracking["hota"]), counts_table(tracking["counts"])
    print(*tables, sep="\n\n")
    if args.json:
        content = {
            "results": str(args.results),
            "annotations": str(args.gt),
            "errors": analysis.to_dict(),
            "score_threshold": args.score_thr,
            **tracking,
        }
        write_json(content, args.json)
        print(f"\nwrote {args.json}")
    if args.plot:
        plot_errors(analysis, args.plot, args.results.name)
        print(f"wrote {args.plot}")


def labelled_kinds() -> list[tuple[str, str]]:
    """Kinds of errors and their labels, the three of linking indented below it."""
    from mmvis_plugin.evaluation import ERROR_KINDS, LINKING_KINDS

    rows = []
    for kind in ERROR_KINDS:
        rows.append((kind, kind))
        if kind == "linking":
            rows += [(sub, f"  {sub}") for sub in LINKING_KINDS]
    return rows


def error_table(analysis) -> str:
    from mmvis_plugin.evaluation.report import text_table

    first = f"{analysis.thresholds[0]:g}"
    header = ["AP gained without errors of", "mean", f"at {first}", f"errors at {first}"]
    rows = [
        [
            label,
            f"{analysis.gains[kind].mean():+.3f}",
            f"{analysis.gains[kind][0]:+.3f}",
            str(analysis.counts[kind][0]),
        ]
        for kind, label in labelled_kinds()
    ]
    figures = f"AP {analysis.ap.mean():.3f}, at IoU {first} {analysis.ap[0]:.3f}"
    return f"{figures}\n\n{text_table(header, rows)}"


def hota_table(hota: dict) -> str:
    from mmvis_plugin.evaluation import HOTA_FIGURES
    from mmvis_plugin.evaluation.report import text_table

    groups = {
        "all classes' masks together": hota["class_combined"],
        "mean over the annotated classes": hota["class_averaged"],
        **{f"  {name}": figures for name, figures in hota["per_class"].items()},
        **{f"tag {name}": figures for name, figures in hota["per_tag"].items()},
    }
    rows = [[name, *(f"{g[figure]:.3f}" for figure in HOTA_FIGURES)] for name, g in groups.items()]
    return text_table(["HOTA", *HOTA_FIGURES], rows)


def counts_table(counts: dict) -> str:
    from mmvis_plugin.evaluation.report import text_table

    keys = [key for key in counts["all"] if key not in ("ids_per_object", "objects_by_ids")]
    tags = {f"tag {name}": group for name, group in counts["per_tag"].items()}
    groups = {"all": counts["all"], **counts["per_class"], **tags}
    rows = [
        [name, *(str(group[key]) for key in keys), f"{group['ids_per_object']:.2f}"]
        for name, group in groups.items()
    ]
    header = ["tracks", *(key.replace("_", " ") for key in keys), "ids per object"]
    by_ids = ", ".join(f"{n} objects with {ids}" for ids, n in counts["all"]["objects_by_ids"])
    return f"{text_table(header, rows)}\n\nidentities over an object's time: {by_ids}"


def plot_errors(analysis, path: str, title: str) -> None:
    """Draw the mean gain of each kind as bars and, over several thresholds, the gain at each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from mmvis_plugin.files import replacing

    several = len(analysis.thresholds) > 1
    figure, axes = plt.subplots(
        1, 1 + several, figsize=(11 if several else 6, 4.4), layout="constrained", squeeze=False
    )
    _draw_bars(axes[0, 0], analysis)
    if several:
        _draw_curves(axes[0, 1], analysis)
    figure.suptitle(f"{title}: AP {analysis.ap.mean():.3f}")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)


def _draw_bars(axes, analysis) -> None:
    """A bar for each kind, thin pale ones for the three of linking."""
    kinds = labelled_kinds()
    for row, (kind, _) in enumerate(kinds):
        main = kind in STYLES
        gain = analysis.gains[kind].mean()
        axes.barh(
            row,
            gain,
            height=0.8 if main else 0.5,
            color=STYLES[kind if main else "linking"][0],
            alpha=1.0 if main else 0.45,
        )
        axes.annotate(
            f"{gain:.3f}",
            (max(gain, 0), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=10 if main else 8.5,
        )
    axes.set_yticks(range(len(kinds)), [label.strip() for _, label in kinds])
    for (kind, _), label in zip(kinds, axes.get_yticklabels(), strict=True):
        if kind not in STYLES:
            label.set(fontsize=8.5, color="0.35")
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.spines[["top", "right"]].set_visible(False)
    thresholds = analysis.thresholds
    where = f"mean over IoU {thresholds[0]:g} to {thresholds[-1]:g}"
    axes.set_xlabel(
        "AP gained by correcting only these errors\n"
        + (where if len(thresholds) > 1 else f"at IoU {thresholds[0]:g}")
    )


def _draw_curves(axes, analysis) -> None:
    for kind, (color, marker) in STYLES.items():
        axes.plot(
            analysis.thresholds, analysis.gains[kind], color=color, marker=marker, ms=5, label=kind
        )
    axes.plot(analysis.thresholds, analysis.ap, color="0.5", ls="--", label="AP itself")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.set_xlabel("IoU from which a track is right")
    axes.set_ylabel("AP gained")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))


if __name__ == "__main__":
    run(main, ERRORS)
