"""Write ShapesVIS, the synthetic dataset of this project, in the official YouTube-VIS layout."""

import argparse
import sys
from collections.abc import Iterator

from tqdm import tqdm

from mmvis_plugin.datasets.shapes_vis import make_shapes_vis
from mmvis_plugin.ytvis.categories import CATEGORIES

EXAMPLES = """examples:
  python tools/dataset_converters/make_shapes_vis.py
  python tools/dataset_converters/make_shapes_vis.py --out data/shapes_as_ytvis19 \\
      --categories ytvis19 --size 360 640 --videos 8 4
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        default="data/shapes_vis",
        metavar="FOLDER",
        help="folder to write (default: %(default)s)",
    )
    parser.add_argument(
        "--videos",
        type=int,
        nargs=2,
        default=(240, 60),
        metavar=("TRAIN", "VALID"),
        help="number of training and validation videos (default: 240 60)",
    )
    parser.add_argument(
        "--length",
        type=int,
        nargs=2,
        default=(24, 36),
        metavar=("SHORTEST", "LONGEST"),
        help="frames of a video (default: 24 36)",
    )
    parser.add_argument(
        "--size",
        type=int,
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
        help="of the drawing; the same seed gives the same bytes (default: %(default)s)",
    )
    parser.add_argument(
        "--categories",
        choices=sorted(CATEGORIES),
        default="shapes",
        help="category list: its own, or a benchmark's, so that the benchmark's configs run on it "
        "(default: %(default)s)",
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    def progress(videos: Iterator, total: int) -> Iterator:
        return tqdm(videos, total=total, desc=f"writing {args.out}", unit="video")

    try:
        paths = make_shapes_vis(
            args.out,
            *args.videos,
            length=tuple(args.length),
            size=tuple(args.size),
            seed=args.seed,
            categories=args.categories,
            progress=progress,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for split, path in paths.items():
        print(f"{split}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
