"""Convert DAVIS or YouTube-VOS (folders of indexed PNGs) to the official YouTube-VIS JSON.

Frames without a PNG are left out.
"""

from pathlib import Path

from mmvis_plugin.datasets.converters import cli, convert_vos

EXAMPLE = """\
  python tools/dataset_converters/vos2ytvis.py data/DAVIS/JPEGImages/480p \\
      data/DAVIS/Annotations/480p --videos data/DAVIS/ImageSets/2017/train.txt \\
      --out data/DAVIS/train.json
  python tools/dataset_converters/vos2ytvis.py data/youtube_vos/train/JPEGImages \\
      data/youtube_vos/train/Annotations --meta data/youtube_vos/train/meta.json \\
      --out data/youtube_vos/train.json
"""


def main() -> None:
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument("images", type=Path, help="folder with a folder of frames for each video")
    parser.add_argument("masks", type=Path, help="folder with a folder of PNGs for each video")
    parser.add_argument(
        "--meta",
        type=Path,
        metavar="FILE.json",
        help="the meta.json of YouTube-VOS, which has the objects' classes",
    )
    parser.add_argument(
        "--videos",
        type=Path,
        metavar="FILE.txt",
        help="convert only the videos in this list, which has one name a line",
    )
    parser.add_argument(
        "--class-name",
        default="object",
        metavar="NAME",
        help="class of all objects without --meta (default: %(default)s)",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="classes in the order of their category ids, for sets that are to have the same "
        "(default: those that occur, by name)",
    )
    args = parser.parse_args()
    cli.run(
        lambda progress: convert_vos(
            args.images,
            args.masks,
            meta=args.meta,
            videos=args.videos and args.videos.read_text().split(),
            class_name=args.class_name,
            progress=progress,
            classes=args.classes,
        ),
        args.out,
    )


if __name__ == "__main__":
    main()
