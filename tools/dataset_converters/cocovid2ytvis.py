"""Convert MMDetection's converted video JSON (COCO style) to the official YouTube-VIS JSON."""

from pathlib import Path

from mmvis_plugin.datasets.converters import cli, cocovid_to_ytvis

EXAMPLE = """\
  python tools/dataset_converters/cocovid2ytvis.py \\
      data/youtube_vis_2021/annotations/youtube_vis_2021_train.json --out data/mine/train.json
"""


def main() -> None:
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument("ann_file", type=Path, help="JSON with videos, images and annotations")
    args = parser.parse_args()
    cli.run(lambda progress: cocovid_to_ytvis(args.ann_file, progress), args.out)


if __name__ == "__main__":
    main()
