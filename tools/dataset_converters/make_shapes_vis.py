"""Write ShapesVIS, the synthetic dataset of this project, in the official YouTube-VIS layout."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from command_line import make_parser, positive, progress, run

EXAMPLES = """examples:
  python tools/dataset_converters/make_shapes_vis.py
  python tools/dataset_converters/make_shapes_vis.py --version 1 --out data/shapes_vis_v1
  python tools/dataset_converters/make_shapes_vis.py --out data/shapes_as_ytvis19 \\
      --categories ytvis19 --size 360 640 --videos 8 4
"""


def main() -> None:
    args = parse_args()
    # Imported here, so that --help does not wait for PyTorch and MMDetection.
    from mmvis_plugin.datasets.shapes_vis import make_shapes_vis

    paths = make_shapes_vis(
        args.out,
        *args.videos,
        length=args.length,
        size=tuple(args.size),
        seed=args.seed,
        categories=args.categories,
        version=args.version,
        progress=lambda videos, total: progress(videos, "video", total, f"writing {args.out}"),
    )
    for split, path in paths.items():
        print(f"{split}: {path}")


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--out",
        default="data/shapes_vis",
        metavar="FOLDER",
        help="folder to write, new or empty (default: %(default)s)",
    )
    parser.add_argument(
        "--version",
        type=int,
        choices=(1, 2),
        default=2,
        help="version of the dataset; a config names the one it is for (default: %(default)s)",
    )
    parser.add_argument(
        "--videos",
        type=positive,
        nargs="+",
        default=[],
        metavar=("TRAIN", "VALID"),
        help="number of training and, if given, validation videos (default: 240 120; for version 1 "
        "240 60)",
    )
    parser.add_argument(
        "--length",
        type=positive,
        nargs=2,
        metavar=("SHORTEST", "LONGEST"),
        help="frames of a video (default: 24 60; for version 1 24 36)",
    )
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        default=(96, 128),
        metavar=("HEIGHT", "WIDTH"),
        help="size of the frames in pixels (default: 96 128)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="random seed; the same seed writes the same bytes (default: %(default)s)",
    )
    parser.add_argument(
        "--categories",
        choices=("ovis", "shapes", "ytvis19", "ytvis21"),
        default="shapes",
        help="category list: its own, or one of a benchmark, so that the benchmark's configs run "
        "on it (default: %(default)s)",
    )
    args = parser.parse_args()
    if len(args.videos) > 2:
        parser.error("--videos takes one or two numbers: TRAIN VALID")
    return args


if __name__ == "__main__":
    run(main)
