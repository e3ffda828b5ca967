"""How MaskProp carries the features of instances from one frame to the others of its clip.

The figure of the paper (slides, Figure 5): a group for each instance of the key frame, in it the
frames of the clip. Bright is where the propagated features g of that instance are large; the
outline is the mask that the model propagates there. The figure has one channel chosen at random;
here it is by default the Euclidean norm over all channels.
"""

import numpy as np
import torch

from mmvis_plugin.visualization.contact_sheet import spread

from ..inspection import (
    Group,
    InspectedVideo,
    Inspection,
    ModelFrame,
    View,
    activation,
    plain_views,
    scale_of,
)
from .maskprop import MaskProp, ObservedFrame
from .propagation import PropagationHead


@torch.no_grad()
def inspect(
    model: MaskProp,
    video: InspectedVideo,
    at: int,
    count: int = 5,
    *,
    channel: int | None = None,
    score_thr: float = 0.3,
) -> Inspection:
    """The propagated features of the key frame's instances over the clip.

    Args:
        model: The model.
        video: A video.
        at: The key frame.
        count: Frames of the clip to show, evenly over it.
        channel: Of the features; None for their norm.
        score_thr: Minimum score of an instance.

    Raises:
        ValueError: The model propagates no features, or no instance has the score.
    """
    head = model.propagation_head
    if not isinstance(head, PropagationHead):
        raise ValueError(f"{type(head).__name__} propagates no features, PropagationHead does")
    frames, first, clip, ids = segment_clip(model, video, at)
    instances = clip[at - first].instances
    shown = (instances.scores >= score_thr).cpu()
    instances, ids = instances[shown], ids[shown.numpy()]
    if len(ids) == 0:
        raise ValueError(f"frame {at}: no instance scores {score_thr:g}; try another --at")

    times = sorted({*spread(len(clip), count)[1:-1], 0, at - first, len(clip) - 1})
    features = torch.stack([clip[t].features for t in times])
    key_features, masks = clip[at - first].features, instances.grid_masks
    heat = activation(head.propagated_features(key_features, features, masks), channel)
    propagated = head.propagate(key_features, features, masks)
    top = float(heat.max())

    plain = plain_views([first + t for t in times], at)
    groups = [Group(f"{video.name}, the clip around frame {at}", plain)]
    for i, identity in enumerate(ids.tolist()):
        name = model.dataset_meta["classes"][int(instances.labels[i])]
        title = f"{name} {identity} {float(instances.scores[i]):.2f}"
        maps = zip(plain, heat[i].cpu().numpy() / top, propagated[i].cpu().numpy(), strict=True)
        views = [View(v.number, v.caption, heat=h, outline=mask) for v, h, mask in maps]
        groups.append(Group(title, views, identity))
    return Inspection(frames, groups, scale_of("g", channel), top)


def segment_clip(
    model: MaskProp, video: InspectedVideo, key: int
) -> tuple[dict[int, ModelFrame], int, list[ObservedFrame], np.ndarray]:
    """Run the model until the clip around a key frame is tracked.

    Returns:
        The frames by number, the number of the clip's first frame, what the model keeps of the
        clip's frames, and the identities of the key frame's instances.
    """
    state = model.start_video({})
    frames, num_tracked = {}, 0
    for number, frame in enumerate(video.read(min(key + model.reach + 1, video.num_frames))):
        num_tracked += len(model.step(state, frame.inputs, [frame.meta]))
        if number >= key - model.reach:
            frames[number] = frame
    first, clip = model.clip(state, key)
    if num_tracked > key:
        return frames, first, clip, state.history[-1].ids
    model.finish(state)  # the video ends within the clip
    return frames, first, clip, state.history[key - state.num_frames].ids
