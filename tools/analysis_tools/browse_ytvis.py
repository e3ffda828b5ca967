"""Draw a dataset in the YouTube-VIS format: its videos with their tracks, its statistics.

Draws the annotations, or the results of tools/test.py --out, of chosen videos as contact sheets
(PNG) or videos (MP4), and plots the statistics of the annotations. With --config, draws training
clips as the config's pipeline gives them, cropped, flipped and resized as in training.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from command_line import (
    add_cfg_options,
    add_option,
    add_score_thr,
    amount,
    config,
    existing,
    make_parser,
    positive,
    read_settings,
    run,
)

EXAMPLES = """examples:
  python tools/analysis_tools/browse_ytvis.py data/shapes_vis/valid.json \\
      --images data/shapes_vis/valid/JPEGImages --out browse --videos valid_0003 7 --stats
  python tools/analysis_tools/browse_ytvis.py data/shapes_vis/valid.json \\
      --images data/shapes_vis/valid/JPEGImages --out browse --videos all --mp4 \\
      --results results.json --score-thr 0.5
  python tools/analysis_tools/browse_ytvis.py --config maskprop_r18_shapes --out clips --clips 8
"""


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("ann_file", nargs="?", type=existing, help="JSON in the YouTube-VIS format")
    add_option(
        parser,
        "--images",
        Path,
        "FOLDER",
        "folder that the JSON's file_names are relative to (default: that of the JSON)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder to write to"
    )
    parser.add_argument(
        "--videos",
        nargs="+",
        metavar="ID_OR_NAME",
        help="videos to draw, by id or name; 'all' for all of them",
    )
    add_option(
        parser,
        "--results",
        existing,
        "FILE.json",
        "draw these results of tools/test.py --out, not the annotations",
    )
    add_score_thr(parser)
    parser.add_argument("--mp4", action="store_true", help="write videos, not contact sheets")
    add_option(parser, "--fps", amount, "RATE", "frame rate of the videos", 10)
    add_option(parser, "--frames", positive, "N", "frames of a sheet, evenly over the video", 12)
    add_option(parser, "--columns", positive, "N", "pictures in a row of a sheet", 4)
    add_option(
        parser,
        "--width",
        positive,
        "PIXELS",
        "width of each frame (default: 400 on sheets, in videos their own)",
    )
    parser.add_argument(
        "--stats", action="store_true", help="print the statistics and plot statistics.png"
    )
    add_option(parser, "--config", config, "FILE.py", "draw training clips of this config")
    add_option(parser, "--clips", positive, "N", "number of training clips", 8)
    add_cfg_options(parser)
    args = parser.parse_args()
    if not (args.videos or args.stats or args.config):
        parser.error("nothing to do: choose --videos, --stats or --config")
    if (args.videos or args.stats) and not args.ann_file:
        parser.error("--videos and --stats need the JSON of a dataset")
    return args


def main() -> None:
    args = parse_args()
    from mmvis_plugin.apis.browsing import browse, draw_clips

    if args.ann_file:
        browse(args)
    if args.config:
        settings, width = read_settings(args.cfg_options), args.width or 400
        clips = draw_clips(args.config, settings, args.out, args.clips, args.columns, width)
        for path in clips:
            print(f"wrote {path}")


if __name__ == "__main__":
    run(main)
