"""List the trained models that have a name: what they know, and where their weights come from."""

import argparse
from collections.abc import Sequence

from command_line import make_parser, run

EXAMPLES = """examples:
  python tools/list_models.py
  python tools/list_models.py stmask ytvis21
  python demo/video_demo.py street.mp4 masktrack_rcnn_r50_ytvis19 --out tracks.mp4

AP is in percent, as published for the dataset, or ours on ShapesVIS. The delay is how far the model
looks ahead. Weights that are not on this machine are downloaded when a model is first used.
"""
HEADINGS = ("name", "classes", "delay", "MB", "AP", "licence", "weights")


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="list only the names that contain all these words"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmvis_plugin.apis import list_models

    models = [m for m in list_models() if all(word in m.name for word in args.words)]
    if not models:
        raise ValueError(f"no model has a name that contains {' and '.join(args.words)}")
    print_table([HEADINGS, *map(row, models)])


def row(model) -> tuple[str, ...]:
    """The cells of a model; ``model`` is a ``Release``."""
    here = model.model_file.is_file() or model.file.is_file()
    return (
        model.name,
        f"{len(model.classes)} of {model.dataset}" if model.classes else model.dataset,
        model.delay,
        "" if model.megabytes is None else f"{model.megabytes:.0f}",
        "" if model.ap is None else f"{model.ap:.1f}",
        model.licence or "none stated",
        "here" if here else model.source.partition(" (")[0],
    )


def print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        line = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print("  ".join(line).rstrip())


if __name__ == "__main__":
    run(main)
