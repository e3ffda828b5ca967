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
    from mmvis_plugin.apis.browsing import draw_clips

    if args.ann_file:
        browse(args)
    if args.config:
        settings, width = read_settings(args.cfg_options), args.width or 400
        clips = draw_clips(args.config, settings, args.out, args.clips, args.columns, width)
        for path in clips:
            print(f"wrote {path}")


def browse(args: argparse.Namespace) -> None:
    """Draw videos of a dataset and plot its statistics."""
    from mmvis_plugin.apis import browsing
    from mmvis_plugin.datasets import YTVISDataset

    images = args.images or args.ann_file.parent
    dataset = YTVISDataset(
        ann_file=str(args.ann_file),
        data_prefix=dict(img_path=str(images)),
        test_mode=True,
        check_frames="none",
    )
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    chosen = browsing.choose_videos(infos, images, args.videos or [])
    browsing.require_frames([info for _, info in chosen], images)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.stats:
        stats = browsing.statistics(infos, dataset.metainfo["classes"])
        browsing.plot_statistics(stats, args.out / "statistics.png")
        print(browsing.describe(stats))
        print(f"wrote {args.out / 'statistics.png'}")
    if chosen:
        draw_videos(args, chosen, dataset.metainfo)


def draw_videos(args: argparse.Namespace, chosen: list[tuple[str, dict]], metainfo: dict) -> None:
    """Write a sheet or an MP4 of each video, by the name of its file."""
    from tqdm import tqdm

    from mmvis_plugin.apis import browsing
    from mmvis_plugin.files import write_picture
    from mmvis_plugin.visualization import TrackVisualizer
    from mmvis_plugin.visualization.contact_sheet import Section, contact_sheet, spread

    results = browsing.load_tracks(args.results, metainfo) if args.results else None
    visualizer = TrackVisualizer(metainfo["classes"], args.score_thr)
    for name, info in tqdm(chosen, unit="video"):
        if results is None:
            instances = browsing.annotated_instances(info)
        else:
            instances = browsing.result_instances(info, results.get(info["video_id"], []))
        path = args.out / f"{name}{'.mp4' if args.mp4 else '.png'}"
        if args.mp4:
            frames, width = range(info["video_length"]), args.width or info["images"][0]["width"]
        else:
            frames, width = spread(info["video_length"], args.frames), args.width or 400
        pictures = browsing.draw_frames(info, instances, visualizer, frames, width)
        if args.mp4:
            browsing.write_mp4(pictures, path, args.fps)
        else:
            sheet = Section(list(pictures), [str(frame) for frame in frames])
            write_picture(contact_sheet([sheet], args.columns), path)
        tqdm.write(f"wrote {path}")


if __name__ == "__main__":
    run(main)
