"""Convert CVAT's exports in the format "CVAT for video 1.1" to the official YouTube-VIS JSON.

Each task or job is a video. Export with images, unpack the ZIP into a folder named like the video.
"""

import re
from pathlib import Path

from mmvis_plugin.datasets.converters import cli, convert_cvat

EXAMPLE = """\
  python tools/dataset_converters/cvat2ytvis.py data/mine/cats data/mine/dogs \\
      --images data/mine --out data/mine/train.json
reads data/mine/cats/annotations.xml and data/mine/cats/images/frame_000000.jpg ..., and so on
"""


def main() -> None:
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument(
        "annotations", type=Path, nargs="+", help="folder with annotations.xml, or an XML file"
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder with the frames in NAME/images or NAME; file_names are relative to it",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="labels in the order of their category ids (default: the task's order)",
    )
    parser.add_argument(
        "--identity",
        default="track",
        metavar="track|group|attribute:NAME",
        help="what an object is: a track; a group, which joins tracks and masks of one label; or "
        "an attribute, which joins those of one value (default: %(default)s)",
    )
    args = parser.parse_args()
    if not re.fullmatch("track|group|attribute:.+", args.identity):
        parser.error(f"--identity is track, group or attribute:NAME, not {args.identity}")
    cli.run(
        lambda progress: convert_cvat(
            args.annotations, args.images, args.classes, args.identity, progress
        ),
        args.out,
    )


if __name__ == "__main__":
    main()
