"""What STMask carries instances from frame to frame with: box shifts, prototypes and masks.

Three groups. Box shifts: where each instance was in the frame before (thin box), where temporal
fusion expects it in this one (bold box), and the way of its centre (arrow), in the colours of the
identities. Prototypes of the first of these frames, each brightest at its own largest value, which
stands beside its number. Masks of the carried instances, made of those prototypes and the shifted
coefficients, from 0 to 1.
"""

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..inspection import Box, Group, InspectedVideo, Inspection, ModelFrame, View
from .stmask import STMask, STMaskState


@torch.no_grad()
def inspect(
    model: STMask, video: InspectedVideo, at: int, count: int = 4, *, instances: int = 8
) -> Inspection:
    """Box shifts from a frame on, and the prototypes and masks of that frame.

    Args:
        model: The model.
        video: A video.
        at: The first frame; not the video's first.
        count: Frames with box shifts.
        instances: Maximum number of instances, by score.

    Raises:
        ValueError: The model has no temporal fusion, or ``at`` is 0.
    """
    if model.temporal_fusion is None:
        raise ValueError("the model has no temporal fusion, which shifts boxes")
    if at == 0:
        raise ValueError("frame 0 has no frame before it: choose a later one (--at)")
    state = model.start_video({})
    frames, groups = {}, [Group(f"{video.name}: box shifts of temporal fusion")]
    for number, frame in enumerate(video.read(min(at + count, video.num_frames))):
        if number >= at:
            before, carried, prototypes = carry(model, state, frame, instances)
            frames[number] = frame
            groups[0].views.append(shifts(before, carried, frame, number))
        if number == at:
            groups += details(model, carried, prototypes, number)
        model.step(state, frame.inputs, [frame.meta])
    return Inspection(frames, groups, "part of the largest value", columns=4)


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


def shifts(before: InstanceData, carried: InstanceData, frame: ModelFrame, number: int) -> View:
    """Boxes in the frame before, boxes carried to this one, and arrows, on this one."""
    # The model's boxes are in fractions of the padded frame.
    scale = np.array(frame.padded_size[::-1]) / frame.meta["img_shape"][1::-1]
    old, new = (x.bboxes.cpu().numpy() * np.tile(scale, 2) for x in (before, carried))
    arrows = [
        (Box(a, identity), Box(b, identity, bold=True))
        for a, b, identity in zip(old, new, carried.ids.tolist(), strict=True)
    ]
    return View(number, str(number), boxes=[box for pair in arrows for box in pair], arrows=arrows)


def details(model: STMask, carried: InstanceData, prototypes: Tensor, number: int) -> list[Group]:
    """Prototypes of a frame, and the masks of the instances carried to it."""
    tops = prototypes.flatten(1).max(1).values.tolist()
    group = Group(f"frame {number}: prototypes")
    for k, (heat, top) in enumerate(zip(prototypes.cpu().numpy(), tops, strict=True)):
        group.views.append(View(number, f"{k}: {top:.3g}", heat=heat / max(top, 1e-30)))
    groups = [group]
    if len(carried):
        names = [model.dataset_meta["classes"][label] for label in carried.labels.tolist()]
        masks = zip(names, carried.ids.tolist(), carried.masks.cpu().numpy(), strict=True)
        views = [View(number, f"{name} {id_}", heat=mask) for name, id_, mask in masks]
        groups.append(Group(f"frame {number}: masks of the instances carried to it", views))
    return groups
