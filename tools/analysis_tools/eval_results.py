"""Score mask tracks with the YouTube-VIS protocol, by class and by tag, or compare two results.

Tags are those of the annotation file's videos (a list under the key "tags"), such as occlusion or
fast_motion in ShapesVIS. A comparison draws the videos again and again with replacement: its
interval shows how much of the difference may be due to the choice of videos. It is computed for AP,
AP50, AP75 and AR10.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from command_line import add_option, existing, make_parser, run, whole

EXAMPLES = """examples:
  python tools/analysis_tools/eval_results.py results.json data/shapes_vis/valid.json
  python tools/analysis_tools/eval_results.py new.json data/shapes_vis/valid.json \\
      --compare old.json --markdown comparison.md --json comparison.json
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("results", type=existing, help="results.json of tools/test.py --out")
    parser.add_argument("gt", type=existing, help="JSON of annotations in the YouTube-VIS format")
    add_option(
        parser,
        "--compare",
        existing,
        "OTHER.json",
        "other results, which the first are compared with",
    )
    add_option(
        parser, "--samples", whole, "N", "times that --compare draws the videos, 100 or more", 1000
    )
    add_option(parser, "--seed", whole, "N", "of the drawing with --compare", 0)
    add_option(parser, "--json", str, "FILE.json", "write the figures as JSON")
    add_option(parser, "--markdown", str, "FILE.md", "write the tables as Markdown")
    args = parser.parse_args()
    if args.samples < 100:
        parser.error(f"--samples must be at least 100, got {args.samples}")
    return args


def main() -> None:
    args = parse_args()
    from mmvis_plugin.evaluation.report import markdown_table, text_table
    from mmvis_plugin.files import write_json, write_text

    gt, tags = load_annotations(args.gt)
    report = compare(args, gt, tags) if args.compare else score(args, gt, tags)
    tables = report.pop("tables")
    report["videos_per_tag"] = {tag: len(ids) for tag, ids in tags.items()}
    print("\n\n".join(text_table(header, rows) for header, rows in tables))
    if args.json:
        write_json(dict(annotations=str(args.gt), results=str(args.results), **report), args.json)
        print(f"\nwrote {args.json}")
    if args.markdown:
        write_text("\n\n".join(markdown_table(*table) for table in tables) + "\n", args.markdown)
        print(f"\nwrote {args.markdown}")


def load_annotations(path: str):
    """Give the ground truth, which must have annotations, and the ids of each tag's videos."""
    from mmvis_plugin.evaluation import load_ground_truth

    gt = load_ground_truth(path)
    if not gt.tracks:
        raise ValueError(
            f"{path} has no annotations to score with, like the validation sets of YouTube-VIS "
            "and OVIS; use videos held out from training "
            "(tools/dataset_converters/split_ytvis.py)"
        )
    untagged = set(gt.videos).difference(*gt.tags.values())
    return gt, {**gt.tags, "(no tag)": untagged} if gt.tags and untagged else gt.tags


def split(matches: list, gt, tags: dict) -> dict[str, dict[str, list]]:
    """Records of all classes and videos, of each class, and of each tag's videos."""
    return {
        "all": {"all": matches},
        "per_class": {
            name: [of_class(record, label) for record in matches]
            for label, name in enumerate(gt.categories.values())
        },
        "per_tag": {
            tag: [record for record in matches if record.video_id in ids]
            for tag, ids in tags.items()
        },
    }


def of_class(record, label: int):
    """The part of a video's record that is about one class."""
    tracks, objects = record.labels == label, record.object_labels == label
    return record._replace(
        labels=record.labels[tracks],
        scores=record.scores[tracks],
        ranks=record.ranks[tracks],
        matched=record.matched[tracks],
        ignored=record.ignored[tracks],
        object_labels=record.object_labels[objects],
        objects=record.objects[objects],
    )


def match(path: str, gt) -> list:
    from mmvis_plugin.evaluation import load_results, match_videos

    return match_videos(gt, load_results(path, gt))


def figures_of(records: list, gt) -> dict[str, float | None]:
    """The protocol's figures; None where no annotation defines one."""
    from mmvis_plugin.evaluation import accumulate
    from mmvis_plugin.evaluation.protocol import FIGURES

    stats = accumulate(records, list(gt.categories.values()))
    return {figure: None if stats[figure] < 0 else stats[figure] for figure in FIGURES}


def score(args: argparse.Namespace, gt, tags: dict) -> dict:
    """Figures of one result, and tables of them."""
    report = {
        section: {name: figures_of(records, gt) for name, records in groups.items()}
        for section, groups in split(match(args.results, gt), gt, tags).items()
    }
    figures = list(report["all"]["all"])

    def row(name: str, group: dict) -> list[str]:
        return [name, *(number(group[figure]) for figure in figures)]

    classes = [*report["all"].items(), *report["per_class"].items()]
    tables = [(["class", *figures], [row(name, group) for name, group in classes])]
    if tags:
        rows = [row(f"{tag} ({len(tags[tag])})", g) for tag, g in report["per_tag"].items()]
        tables.append((["tag (videos)", *figures], rows))
    return {**report, "all": report["all"]["all"], "tables": tables}


def compare(args: argparse.Namespace, gt, tags: dict) -> dict:
    """Figures of two results, their differences with intervals, and tables of them."""
    from tqdm import tqdm

    ours = split(match(args.results, gt), gt, tags)
    theirs = split(match(args.compare, gt), gt, tags)
    report: dict = {section: {} for section in ours}
    groups = [(section, name) for section in ours for name in ours[section]]
    for section, name in tqdm(groups, desc="drawing videos", leave=False):
        report[section][name] = differences(
            ours[section][name], theirs[section][name], gt, args.samples, args.seed
        )

    header = ["results", "compared with", "difference", "95% interval"]
    everything = report["all"]["all"]
    tables = [
        (["all", *header], [[figure, *cells(entry)] for figure, entry in everything.items()]),
    ]
    rows = [[name, *cells(group["AP"])] for name, group in report["per_class"].items()]
    tables.append((["AP of class", *header], rows))
    if tags:
        rows = [
            [f"{tag} ({len(tags[tag])})", *cells(group["AP"])]
            for tag, group in report["per_tag"].items()
        ]
        tables.append((["AP of tag (videos)", *header], rows))
    drawing = {"compared_with": str(args.compare), "samples": args.samples, "seed": args.seed}
    return {**drawing, **report, "all": everything, "tables": tables}


def differences(ours: list, theirs: list, gt, samples: int, seed: int) -> dict[str, dict]:
    """Each figure of both, the first less the second, and the interval where it is computed."""
    from mmvis_plugin.evaluation import paired_bootstrap

    drawn = {}
    if any(record.objects[:, 0].any() for record in ours):
        drawn = paired_bootstrap(theirs, ours, samples, seed)
    result = {}
    second = figures_of(theirs, gt)
    for figure, value in figures_of(ours, gt).items():
        other = second[figure]
        interval = [drawn[figure].low, drawn[figure].high] if figure in drawn else None
        result[figure] = {
            "results": value,
            "compared_with": other,
            "difference": None if value is None else value - other,
            "interval": interval,
        }
    return result


def cells(entry: dict) -> list[str]:
    low_high = entry["interval"]
    return [
        number(entry["results"]),
        number(entry["compared_with"]),
        number(entry["difference"], "+"),
        f"{low_high[0]:+.3f} to {low_high[1]:+.3f}" if low_high else "-",
    ]


def number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


if __name__ == "__main__":
    run(main)
