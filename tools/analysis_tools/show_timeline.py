"""Shows when each track of a video is there: one bar a track, in the colour of its identity.

From a video and a model, from a table of tracks (CSV of demo/video_demo.py), or from official
results (JSON of demo/video_demo.py or tools/test.py). Colours are those of the drawn video for
the first two; results have no identities, and their tracks count by falling score, as in the
pictures of browse_ytvis.py --results.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import command_line
from command_line import run

EXAMPLES = """examples:
  python tools/analysis_tools/show_timeline.py clip.mp4 maskprop_r18_shapes --out timeline.png
  python tools/analysis_tools/show_timeline.py clip_tracks.csv --out timeline.png --fps 25
  python tools/analysis_tools/show_timeline.py results.json --out timeline.png --video-id 3 \\
      --ann-file data/shapes_vis/valid.json
"""


def parse_args():
    parser = command_line.make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "source",
        type=command_line.source,
        help="video (then CONFIG follows), or tracks: .csv or .json",
    )
    parser.add_argument(
        "config",
        nargs="?",
        type=command_line.config,
        help="for a video: config file, or name of a config that comes with the package",
    )
    command_line.add_checkpoint(parser)
    command_line.add_picture(parser)
    command_line.add_option(
        parser,
        "--frames",
        command_line.positive,
        "N",
        "length of the plot, that of the video where the source has it",
    )
    command_line.add_score_thr(parser)
    command_line.add_option(
        parser, "--tracks", command_line.positive, "N", "show the N longest tracks", 60
    )
    command_line.add_option(
        parser, "--fps", command_line.amount, "RATE", "frame rate, for tracks; a video has its own"
    )
    command_line.add_option(
        parser, "--video-id", int, "ID", "video to show, for results of several"
    )
    command_line.add_option(
        parser,
        "--ann-file",
        command_line.existing,
        "FILE.json",
        "annotations that name the classes of results; without them they are numbered",
    )
    command_line.add_frame_range(parser)
    command_line.add_device(parser)
    command_line.add_cfg_options(parser)
    command_line.add_untrained(parser)
    args = parser.parse_args()
    args.is_tracks = Path(args.source).suffix.lower() in (".csv", ".json")
    if not args.is_tracks and args.config is None:
        parser.error("a video needs a CONFIG")
    return args


def main() -> None:
    args = parse_args()
    from mmvis_plugin.files import write_picture
    from mmvis_plugin.visualization.timeline import figure_pixels, plot_timeline

    if not args.is_tracks:
        bars, num_frames, fps = segment(args)
    else:
        bars, num_frames = read_tracks(args)
        fps = args.fps
    last = max((bar.runs[-1][1] for bar in bars if bar.runs), default=0)
    num_frames = args.frames or num_frames or last
    if last > num_frames:
        raise ValueError(f"--frames {num_frames}: there are tracks until frame {last - 1}")
    name = Path(args.source).name
    plot = plot_timeline(bars, num_frames, fps, args.tracks, name)
    write_picture(figure_pixels(plot), args.out)
    print(f"wrote {args.out}")


def segment(args) -> tuple[list, int, float]:
    """Tracks of a video, its length and frame rate."""
    from mmvis_plugin.apis import CSVSink, VISInferencer
    from mmvis_plugin.apis.track_bars import read_track_table

    model = command_line.open_model(args)
    with tempfile.TemporaryDirectory() as folder, VISInferencer(model) as inferencer:
        table = Path(folder, "tracks.csv")
        video = inferencer(args.source, start=args.start, end=args.end, stride=args.stride)
        with CSVSink(table, args.score_thr) as sink:
            for result in command_line.progress(video, "frame", video.num_frames, video.name):
                sink.write(result)
        return read_track_table(table), sink.num_frames, float(video.fps)


def read_tracks(args) -> tuple[list, int]:
    """Tracks of a file, and the video's length if the file tells."""
    from mmvis_plugin.apis.track_bars import read_results, read_track_table
    from mmvis_plugin.ytvis.reader import read_ytvis

    if args.source.lower().endswith(".csv"):
        bars, num_frames = read_track_table(args.source), 0
    else:
        classes = read_ytvis(args.ann_file).categories if args.ann_file else None
        bars, num_frames = read_results(args.source, args.video_id, classes)
    return [bar for bar in bars if bar.score >= args.score_thr], num_frames


if __name__ == "__main__":
    run(main)
