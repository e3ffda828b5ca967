"""Convert MOTS annotations (KITTI MOTS, MOTSChallenge; PNG or txt) to the YouTube-VIS JSON.

Regions to ignore become crowd annotations of each class.
"""

from pathlib import Path

from mmvis_plugin.datasets.converters import cli, convert_mots

EXAMPLE = """\
  python tools/dataset_converters/mots2ytvis.py data/kitti_mots/training/image_02 \\
      data/kitti_mots/instances_txt --sequences 0000 0001 --out data/kitti_mots/train.json
"""


def main() -> None:
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument(
        "images", type=Path, help="folder with the frames in SEQUENCE or SEQUENCE/img1"
    )
    parser.add_argument(
        "annotations",
        type=Path,
        help="folder with SEQUENCE/*.png, SEQUENCE.txt or SEQUENCE/gt/gt.txt",
    )
    parser.add_argument(
        "--sequences",
        nargs="+",
        metavar="NAME",
        help="convert these only (default: all that have annotations)",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NUMBER=NAME",
        default=["1=car", "2=pedestrian"],
        help="what MOTS's class numbers mean (default: 1=car 2=pedestrian)",
    )
    args = parser.parse_args()
    pairs = [text.partition("=") for text in args.classes]
    if not all(number.isdecimal() and name for number, _, name in pairs):
        parser.error(f"--classes wants NUMBER=NAME, got {' '.join(args.classes)}")
    classes = {int(number): name for number, _, name in pairs}
    cli.run(
        lambda progress: convert_mots(
            args.images, args.annotations, classes, args.sequences, progress
        ),
        args.out,
    )


if __name__ == "__main__":
    main()
