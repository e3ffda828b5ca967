"""Show what STMask carries instances from frame to frame with: box shifts, prototypes and masks.

Three sections. Box shifts: where each instance was in the frame before (thin box), where temporal
fusion expects it in this one (thick box), and the way of its centre (arrow), in the colours of the
identities. Prototypes of the first of these frames, each brightest at its own largest value, which
stands beside its number. Masks of the carried instances, made of those prototypes and the shifted
coefficients, from 0 to 1.
"""

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor
from tqdm import tqdm

from mmvis_plugin.apis.command_line import (
    ModelFrame,
    add_key_frame,
    frame_at,
    model_frames,
    open_model,
    open_video,
    picture_parser,
    positive,
    run_tool,
)
from mmvis_plugin.models import STMask
from mmvis_plugin.models.stmask.stmask import STMaskState
from mmvis_plugin.visualization import track_color
from mmvis_plugin.visualization.contact_sheet import Section, resize_picture, write_picture
from mmvis_plugin.visualization.feature_maps import at_frame_size, heat_sheet, paint_heat

EXAMPLES = """examples:
  python tools/analysis_tools/show_stmask_prototypes.py clip.mp4 stmask_r18_shapes --out p.png
  python tools/analysis_tools/show_stmask_prototypes.py frames/ CONFIG.py CHECKPOINT.pth \\
      --out p.png --at 40 --frames 8 --columns 8
"""


def parse_args():
    parser = picture_parser(__doc__, EXAMPLES, 4, "frames with their box shifts, from --at on")
    add_key_frame(parser, "frame whose prototypes are shown, with one before it")
    parser.add_argument(
        "--instances",
        type=positive,
        default=8,
        metavar="N",
        help="most instances to show, by score (default: %(default)s)",
    )
    parser.set_defaults(columns=4)
    return parser.parse_args()


@torch.no_grad()
def show(args) -> None:
    model = open_model(args, STMask)
    if model.temporal_fusion is None:
        raise ValueError(f"{args.config}: the model has no temporal fusion, which shifts boxes")
    with open_video(args) as reader:
        first = frame_at(args.at, reader.num_frames)
        if first == 0:
            raise ValueError("frame 0 has no frame before it: choose a later one (--at)")
        stop = min(first + args.frames, reader.num_frames)
        state = model.start_video({})
        shifts = Section(title=f"{reader.name}: box shifts of temporal fusion")
        for number, frame in enumerate(tqdm(model_frames(model, reader, stop), total=stop)):
            if number >= first:
                before, carried, prototypes = carry(model, state, frame, args.instances)
                picture = draw_shifts(before, carried, frame, args.width)
                shifts.pictures.append(picture)
                shifts.captions.append(str(number))
            if number == first:
                details = describe(model, carried, prototypes, frame, number, args.width)
            model.step(state, frame.inputs, [frame.meta])
    sheet = heat_sheet([shifts, *details], args.columns, "part of the largest value", 1)
    write_picture(sheet, args.out)


def carry(
    model: STMask, state: STMaskState, frame: ModelFrame, count: int
) -> tuple[InstanceData, InstanceData, Tensor]:
    """Instances before a frame and carried to it, the best that would be shown; its prototypes."""
    feats = model.detector.extract_feat(frame.inputs)
    outputs = model.detector.outputs(feats)
    carried = model.carry_on(state, feats, outputs)
    best = carried.scores.argsort(descending=True)
    shown = model.tracker.shown(carried, model.tracker.max_shown_gap) if len(carried) else best > 0
    rows = best[shown[best]][:count]
    return state.tracks[rows], carried[rows], outputs.prototypes[0]


def draw_shifts(
    before: InstanceData, carried: InstanceData, frame: ModelFrame, width: int
) -> np.ndarray:
    """Boxes in the frame before, boxes carried to this one, and arrows, on this one."""
    picture = resize_picture(frame.image, width).copy()
    thick = max(2, round(min(picture.shape[:2]) / 80))
    old, new = (on_picture(x.bboxes, frame, picture) for x in (before, carried))
    for i, instance_id in enumerate(carried.ids.tolist()):
        color = track_color(instance_id)
        for boxes, thickness in ((old, 1), (new, thick)):
            x1, y1, x2, y2 = boxes[i].round().astype(int).tolist()
            cv2.rectangle(picture, (x1, y1), (x2, y2), color, thickness)
        ends = ((boxes[i, :2] + boxes[i, 2:]) / 2 for boxes in (old, new))
        ends = [tuple(end.round().astype(int).tolist()) for end in ends]
        cv2.arrowedLine(picture, *ends, color, thick, tipLength=0.3)
    return picture


def on_picture(boxes: Tensor, frame: ModelFrame, picture: np.ndarray) -> np.ndarray:
    """(N, 4) boxes in fractions of the padded frame, in pixels of the picture."""
    padded = np.array(frame.padded_size[::-1])
    content = np.array(frame.meta["img_shape"][1::-1])
    scale = padded / content * picture.shape[1::-1]
    return boxes.cpu().numpy() * np.tile(scale, 2)


def describe(
    model: STMask,
    carried: InstanceData,
    prototypes: Tensor,
    frame: ModelFrame,
    number: int,
    width: int,
) -> list[Section]:
    """Prototypes of a frame, and the masks of the instances carried to it."""
    picture = resize_picture(frame.image, width)

    def heat(maps: Tensor) -> np.ndarray:
        return at_frame_size(maps, frame.padded_size, frame.meta, picture.shape[1::-1])

    tops = prototypes.flatten(1).max(1).values.tolist()
    sections = [
        Section(
            [paint_heat(picture, m, top) for m, top in zip(heat(prototypes), tops, strict=True)],
            [f"{k}: {top:.3g}" for k, top in enumerate(tops)],
            f"frame {number}: prototypes",
        )
    ]
    if len(carried):
        classes = [model.dataset_meta["classes"][label] for label in carried.labels.tolist()]
        ids = carried.ids.tolist()
        sections.append(
            Section(
                [paint_heat(picture, mask, 1) for mask in heat(carried.masks)],
                [f"{name} {id_}" for name, id_ in zip(classes, ids, strict=True)],
                f"frame {number}: masks of the instances carried to it",
            )
        )
    return sections


def main() -> None:
    run_tool(show, parse_args())


if __name__ == "__main__":
    main()
