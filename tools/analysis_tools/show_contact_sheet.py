"""Show frames of a video with their tracks side by side on one sheet."""

from tqdm import tqdm

from mmvis_plugin.apis import VISInferencer
from mmvis_plugin.apis.command_line import open_model, open_video, picture_parser, run_tool
from mmvis_plugin.visualization import TrackVisualizer
from mmvis_plugin.visualization.contact_sheet import (
    Section,
    contact_sheet,
    resize_frame,
    spread,
    write_picture,
)

EXAMPLES = """examples:
  python tools/analysis_tools/show_contact_sheet.py clip.mp4 maskprop_r18_shapes --out sheet.png
  python tools/analysis_tools/show_contact_sheet.py frames/ CONFIG.py CHECKPOINT.pth \\
      --out sheet.png --frames 20 --columns 5 --width 320 --trails 15
"""


def parse_args():
    parser = picture_parser(__doc__, EXAMPLES, 12, "frames on the sheet, evenly over the video")
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="leave out what scores less (default: %(default)s)",
    )
    parser.add_argument(
        "--trails",
        type=int,
        default=0,
        metavar="N",
        help="draw the paths of tracks over the last N frames of the video, not the sheet; 0 for "
        "none (default: %(default)s)",
    )
    parser.set_defaults(columns=4, width=400)
    return parser.parse_args()


def show(args) -> None:
    reader = open_video(args)
    numbers = spread(reader.num_frames, args.frames)
    reader.close()
    model = open_model(args)
    with VISInferencer(model) as inferencer:
        video = inferencer(args.video, start=args.start, end=args.end, stride=args.stride)
        visualizer = TrackVisualizer(inferencer.classes, args.score_thr, trails=args.trails)
        sheet = Section()
        for result in tqdm(video, video.name, total=video.num_frames, unit="frame"):
            wanted = result.index in numbers
            if wanted or args.trails:  # which go through all frames
                resized = resize_frame(result.image, result.instances, args.width)
                picture = visualizer.draw(*resized)
            if wanted:
                sheet.pictures.append(picture)
                sheet.captions.append(str(args.start + result.index * args.stride))
    write_picture(contact_sheet([sheet], args.columns), args.out)


def main() -> None:
    run_tool(show, parse_args())


if __name__ == "__main__":
    main()
