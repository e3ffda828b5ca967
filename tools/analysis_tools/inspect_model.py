"""Shows what happens inside a model around a frame of a video: the figures of the papers.

MaskProp         for each instance of the key frame, its features as they are propagated over the
                 clip, and the outline of the mask predicted from them
STMask           where instances were and where temporal fusion expects them in the next frame;
                 the prototypes of the frame, and the masks made of those
EfficientVIS     the feature of each tracklet in its proposal, over the clip
SeqFormer,       the points that the best queries sample, the weight that they give each frame, and
MS-STS VIS       the temporal attention of MS-STS in the encoder

Each method's mmvis_plugin/models/<method>/inspection.py says exactly what is shown.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import command_line
from command_line import run

EXAMPLES = """examples:
  python tools/analysis_tools/inspect_model.py clip.mp4 maskprop_r18_shapes --out features.png
  python tools/analysis_tools/inspect_model.py frames/ CONFIG.py CHECKPOINT.pth \\
      --out prototypes.png --at 40 --frames 8 --columns 8
"""
# Passed on where they are given: the method has its own defaults.
OPTIONS = dict(frames="count", instances="instances", channel="channel", score_thr="score_thr")


def parse_args():
    parser = command_line.picture_parser(__doc__, EXAMPLES, None, 280)
    whole, positive, score = command_line.whole, command_line.positive, command_line.score
    for name, kind, metavar, what in (
        ("--at", whole, "N", "frame to look at, counted from 0 among those read; else the middle"),
        ("--frames", positive, "N", "frames of the clip or window to show, about 4"),
        ("--instances", positive, "N", "maximum number of instances or queries to show, about 5"),
        ("--channel", whole, "N", "feature channel to show, from 0; without it, their norm"),
        ("--score-thr", score, "SCORE", "minimum score of MaskProp's instances, otherwise 0.3"),
    ):
        command_line.add_option(parser, name, kind, metavar, what)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import numpy as np
    import torch

    from mmvis_plugin.apis.inspection import at_frame_size, inspect_model, open_whole_video
    from mmvis_plugin.files import write_picture
    from mmvis_plugin.visualization import contact_sheet, feature_maps, track_color

    model = command_line.open_model(args)
    options = {name: getattr(args, option) for option, name in OPTIONS.items()}
    options = {name: value for name, value in options.items() if value is not None}
    with open_whole_video(args.video, start=args.start, end=args.end, stride=args.stride) as reader:
        at = reader.num_frames // 2 if args.at is None else args.at
        if at >= reader.num_frames:
            raise ValueError(f"--at {at}: the video has frames 0 to {reader.num_frames - 1}")
        found = inspect_model(model, reader, at, **options)
    resized = {
        number: contact_sheet.resize_picture(frame.image, args.width)
        for number, frame in found.frames.items()
    }

    def color_of(identity: int | None) -> tuple[int, int, int]:
        if identity is None:
            return contact_sheet.WHITE
        return track_color(identity) if identity >= 0 else (128, 128, 128)

    def on_picture(values: np.ndarray, view) -> np.ndarray:
        frame, size = found.frames[view.number], resized[view.number].shape[1::-1]
        covered = frame.meta["img_shape"][:2] if view.unpadded else frame.padded_size
        maps = torch.from_numpy(np.asarray(values, np.float32))[None]
        return at_frame_size(maps, covered, frame.meta, size)[0]

    def draw(view, identity: int | None) -> np.ndarray:
        picture = resized[view.number]
        if view.bars is not None:
            return feature_maps.draw_bars(view.bars, picture.shape, color_of(identity))
        if view.points is not None:
            picture = feature_maps.draw_points(picture, view.points[:, :2], view.points[:, 2])
        elif view.heat is not None:
            picture = feature_maps.paint_heat(picture, on_picture(view.heat, view), 1)
        else:
            picture = picture.copy()
        if view.outline is not None:
            mask = on_picture(view.outline, view) > 0.5
            feature_maps.draw_outline(picture, mask, color_of(identity))
        for box in view.boxes:
            feature_maps.draw_box(picture, box.corners, color_of(box.identity), box.bold)
        for start, end in view.arrows:
            color = color_of(end.identity)
            feature_maps.draw_arrow(picture, start.corners, end.corners, color)
        return picture

    sections = [
        contact_sheet.Section(
            [draw(view, group.identity) for view in group.views],
            [view.caption for view in group.views],
            group.title,
            color_of(group.identity),
        )
        for group in found.groups
    ]
    columns = args.columns or found.columns
    sheet = feature_maps.heat_sheet(sections, columns, found.scale, found.top, found.low)
    write_picture(sheet, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    run(main)
