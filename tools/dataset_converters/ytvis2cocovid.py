"""Convert an official YouTube-VIS JSON to MMDetection's video JSON (COCO style)."""

from pathlib import Path

from mmvis_plugin.datasets.converters import cli, ytvis_to_cocovid

EXAMPLE = """\
  python tools/dataset_converters/ytvis2cocovid.py data/youtube_vis_2021/train/instances.json \\
      --out data/youtube_vis_2021/annotations/youtube_vis_2021_train.json
"""


def main() -> None:
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument("ann_file", type=Path, help="JSON in the YouTube-VIS format")
    args = parser.parse_args()
    cli.run(lambda progress: ytvis_to_cocovid(args.ann_file, progress), args.out)


if __name__ == "__main__":
    main()
