"""The tracklet features of EfficientVIS in the frames of a clip.

The paper's Figure 4: a group for each tracklet that is present in the clip, in it the frames.
Bright is where the tracklet feature o of the last stage is active (Equation 3: the RoI features of
the tracklet's proposal, filtered with the query's own filter), in the proposal it was taken from,
whose box is bold where the model says that the instance is present in the frame. The filter should
leave the feature dark where it is absent, even if the proposal lies on another instance.

The paper does not say what is shown of the feature's channels; here it is the Euclidean norm, or
one channel. The scale reaches from the smallest to the largest value on the sheet: the features end
in a normalisation, and their norms differ little.
"""

import numpy as np
import torch
from torch import Tensor

from mmvis_plugin.visualization.contact_sheet import spread

from ..inspection import (
    Box,
    Group,
    InspectedVideo,
    Inspection,
    ModelFrame,
    View,
    activation,
    plain_views,
    recorded,
    scale_of,
)
from ..maskprop.roi_masks import paste_masks
from .efficientvis import EfficientVIS
from .linking import ClipTracklets
from .tracklet_head import TrackletPredictions


@torch.no_grad()
def inspect(
    model: EfficientVIS,
    video: InspectedVideo,
    at: int,
    count: int = 4,
    *,
    channel: int | None = None,
    instances: int = 5,
) -> Inspection:
    """The tracklet features of the clip that a frame is in.

    Args:
        model: The model.
        video: A video.
        at: A frame of the clip.
        count: Frames of the clip to show, evenly over it.
        channel: Of the features; None for their norm.
        instances: Maximum number of tracklets.
    """
    first = at - at % model.clip_length
    frames, tracklets, ids, features, predictions = segment_clip(model, video, first)

    # Present in most frames first, and of those the one with the highest probability.
    foreground = tracklets.probabilities[..., :-1].amax((1, 2))
    queries = (tracklets.present.sum(1) + foreground).argsort(descending=True)
    # Where nothing is present, as in an untrained model, there are only the absent ones to show.
    shown = queries[tracklets.present[queries].any(1)] if tracklets.present.any() else queries
    shown = shown[:instances].tolist()
    times = spread(len(frames), count)
    heat = activation(features[0, shown][:, times], channel)
    boxes = predictions.mask_boxes[0, shown][:, times]
    top, low = float(heat.max()), float(heat.min())

    plain = plain_views([first + t for t in times])
    title = f"{video.name}, frames {first} to {first + len(frames) - 1}"
    groups = [Group(title, plain)]
    for row, query in enumerate(shown):
        group = Group(describe(model, tracklets, ids, query), identity=int(ids[query]))
        for column, t in enumerate(times):
            box = boxes[row, column]
            pasted = paste_masks(heat[row, column][None], box[None], 1, frames[t].padded_size)[0]
            size = np.tile(frames[t].meta["img_shape"][1::-1], 2)
            group.views.append(
                View(
                    plain[column].number,
                    plain[column].caption,
                    heat=(pasted.cpu().numpy() - low) / max(top - low, 1e-30),
                    boxes=[
                        Box(
                            box.cpu().numpy() / size,
                            group.identity,
                            bold=bool(tracklets.present[query, t]),
                        )
                    ],
                )
            )
        groups.append(group)
    numbered = {first + t: frame for t, frame in enumerate(frames)}
    return Inspection(numbered, groups, scale_of("o", channel), top, low)


def segment_clip(
    model: EfficientVIS, video: InspectedVideo, first: int
) -> tuple[list[ModelFrame], ClipTracklets, Tensor, Tensor, TrackletPredictions]:
    """Segment clip after clip up to the one that begins with a frame.

    Returns:
        Its frames, tracklets and their (N,) identities, (1, N, T, C, S, S) tracklet features of
        the last stage, and what that stage predicts.
    """
    links = model.linking.start(model.tracklet_head.initial_queries)
    stop = min(first + model.clip_length, video.num_frames)
    clip: list[ModelFrame] = []
    for number, frame in enumerate(video.read(stop), 1):
        clip.append(frame)
        if number % model.clip_length and number < stop:
            continue
        inputs = torch.cat([frame.inputs for frame in clip])
        metas = [frame.meta for frame in clip]
        convolution = model.tracklet_head.stages[-1].instance_interactive_conv
        with recorded(convolution) as features, recorded(model.tracklet_head) as outputs:
            tracklets = model.segment(inputs, metas, links.queries)
        ids = model.linking.link(links, tracklets)
        if number < stop:
            clip = []
    predictions, _ = outputs[0]
    return clip, tracklets, ids, features[0], predictions[-1]


def describe(model: EfficientVIS, tracklets: ClipTracklets, ids: Tensor, query: int) -> str:
    """Class, identity and probability of a tracklet."""
    probabilities = tracklets.probabilities[query, :, :-1].mean(0)
    name = model.dataset_meta["classes"][int(probabilities.argmax())]
    return f"{name} {int(ids[query])} {float(probabilities.max()):.2f}"
