"""Shows frames of a video with their tracks side by side on one sheet."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import command_line
from command_line import run

EXAMPLES = """examples:
  python tools/analysis_tools/show_contact_sheet.py clip.mp4 maskprop_r18_shapes --out sheet.png
  python tools/analysis_tools/show_contact_sheet.py frames/ CONFIG.py CHECKPOINT.pth \\
      --out sheet.png --frames 20 --columns 5 --width 320 --trails 15
"""


def parse_args():
    parser = command_line.picture_parser(__doc__, EXAMPLES, 4, 400)
    frames = "frames on the sheet, evenly over the video"
    command_line.add_option(parser, "--frames", command_line.positive, "N", frames, 12)
    command_line.add_score_thr(parser)
    command_line.add_option(
        parser,
        "--trails",
        command_line.whole,
        "N",
        "draw the paths of tracks over the last N frames of the video, not the sheet; 0 for none",
        0,
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmvis_plugin.apis import VISInferencer
    from mmvis_plugin.apis.inspection import open_whole_video
    from mmvis_plugin.files import write_picture
    from mmvis_plugin.visualization import TrackVisualizer, contact_sheet

    part = dict(start=args.start, end=args.end, stride=args.stride)
    with open_whole_video(args.video, **part) as reader:
        numbers = contact_sheet.spread(reader.num_frames, args.frames)
    with VISInferencer(command_line.open_model(args)) as inferencer:
        video = inferencer(args.video, **part)
        visualizer = TrackVisualizer(inferencer.classes, args.score_thr, trails=args.trails)
        sheet = contact_sheet.Section()
        for result in command_line.progress(video, "frame", video.num_frames, video.name):
            wanted = result.index in numbers
            if wanted or args.trails:  # which go through all frames
                resized = contact_sheet.resize_frame(result.image, result.instances, args.width)
                picture = visualizer.draw(*resized)
            if wanted:
                sheet.pictures.append(picture)
                sheet.captions.append(str(args.start + result.index * args.stride))
    write_picture(contact_sheet.contact_sheet([sheet], args.columns), args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    run(main)
