"""Convert LabelMe's JSON files (one a frame) to the official YouTube-VIS JSON.

Every folder with LabelMe files is a video. An object is a label with a group_id.
"""

from pathlib import Path

from mmvis_plugin.datasets.converters import cli, convert_labelme

EXAMPLE = """\
  python tools/dataset_converters/labelme2ytvis.py data/mine/frames --classes cat dog \\
      --out data/mine/train.json
"""


def main() -> None:
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument("labels", type=Path, help="folder with a folder of LabelMe files a video")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="folder that file_names are relative to (default: that of the labels)",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="labels in the order of their category ids (default: sorted by name)",
    )
    parser.add_argument(
        "--ungrouped",
        choices=("refuse", "label"),
        default="refuse",
        help="a shape without group_id: refuse it, or take it for the one object of its label in "
        "the video (default: %(default)s)",
    )
    parser.add_argument(
        "--unlabelled",
        choices=("drop", "empty"),
        default="drop",
        help="an image without a LabelMe file: drop it, or take it for a frame without objects "
        "(default: %(default)s)",
    )
    args = parser.parse_args()
    cli.run(
        lambda progress: convert_labelme(
            args.labels, args.images, args.classes, args.ungrouped, args.unlabelled, progress
        ),
        args.out,
    )


if __name__ == "__main__":
    main()
