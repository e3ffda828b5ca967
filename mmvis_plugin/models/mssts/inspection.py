"""Where and when the instance queries of SeqFormer and MS-STS VIS look.

A group for each of the best queries: in each frame, the points that its box query samples in the
last decoder layer (all heads and scales), brighter and larger the more weight they have, and the
box it gives there; then the temporal attention, the weights that the instance query gives all
frames of the window, as bars whose highest stands above them.

With MS-STS attention in the encoder one more group: for each position of the frame ``at``, how much
it attends to the same position in the other frames (last layer, finest scale, mean over heads).

The frames are those of one window, all of a video that is no longer than that. Identities are those
of the output video in the first window; later ones are linked to it by their masks.
"""

from collections import deque
from typing import NamedTuple

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
    plain_views,
    recorded,
)
from .mssts import MSSTSVIS


class Looks(NamedTuple):
    """Where the queries of a window of T frames look, in the last decoder layer.

    Attributes:
        scores: (Q, K) of the classes.
        boxes: (T, Q, 4) cx, cy, w, h in widths and heights of the frame.
        points: (T, Q, P, 2) x and y of all heads' and scales' points, likewise.
        weights: (T, Q, P) of the points, sum 1 for each head.
        frame_weights: (T, Q), sum 1.
        over_time: (T, T, h, w) attention of each position of a frame (first) to each frame in the
            encoder, sum 1 over the second; None without MS-STS attention within scales.
    """

    scores: Tensor
    boxes: Tensor
    points: Tensor
    weights: Tensor
    frame_weights: Tensor
    over_time: Tensor | None


@torch.no_grad()
def inspect(
    model: MSSTSVIS, video: InspectedVideo, at: int, count: int = 4, *, instances: int = 4
) -> Inspection:
    """The sampling points of the best queries in a window.

    Args:
        model: The model.
        video: A video.
        at: A frame, in the middle of the window where the video allows it.
        count: Frames of the window to show, evenly over it.
        instances: Number of queries, the best first.
    """
    first, frames = read_window(model, video, at)
    looks = look(model, frames)
    times = spread(len(frames), count)
    plain = plain_views([first + t for t in times])
    groups = [Group(f"{video.name}, frames {first} to {first + len(frames) - 1}", plain)]
    for query, identity, label in best_queries(model, looks.scores, instances):
        name, score = model.dataset_meta["classes"][label], float(looks.scores[query].max())
        group = Group(f"{name} {identity} {score:.2f}", identity=identity)
        weights = looks.weights[:, query, :, None] / looks.weights.max()
        points = torch.cat([looks.points[:, query], weights], dim=-1).numpy()
        for t, view in zip(times, plain, strict=True):
            centre, size = looks.boxes[t, query].view(2, 2).numpy()
            box = Box(np.concatenate([centre - size / 2, centre + size / 2]), identity)
            group.views.append(View(view.number, view.caption, points=points[t], boxes=[box]))
        bars = looks.frame_weights[:, query].numpy()
        group.views.append(View(first, f"of all frames, to {bars.max():.2g}", bars=bars))
        groups.append(group)
    if looks.over_time is not None:
        attention = looks.over_time[at - first][times].numpy()
        views = [
            # The model cuts the padding off before it encodes a window.
            View(view.number, view.caption, heat=heat / attention.max(), unpadded=True)
            for view, heat in zip(plain, attention, strict=True)
        ]
        groups.append(Group(f"MS-STS attention of the positions in frame {at} to frame ...", views))
    numbered = {first + t: frame for t, frame in enumerate(frames)}
    return Inspection(numbered, groups, "part of the largest weight")


def read_window(model: MSSTSVIS, video: InspectedVideo, at: int) -> tuple[int, list[ModelFrame]]:
    """Read a window with a frame in its middle, as far as the video reaches.

    Returns:
        The window's first frame, and all of its frames.
    """
    length = min(model.windows.length, video.num_frames)
    first = min(max(at - length // 2, 0), video.num_frames - length)
    # The frames before the window are let go as they come.
    return first, list(deque(video.read(first + length), maxlen=length))


def look(model: MSSTSVIS, frames: list[ModelFrame]) -> Looks:
    """Segment a window and gather where its queries look."""
    layer = model.decoder.layers[-1]
    attention = layer.cross_attention
    encoder = model.encoder
    within = getattr(encoder.layers[-1].ms_sts, "intra", None)
    with (
        recorded(model.decoder) as decoded,
        recorded(attention.sampling_offsets) as offsets,
        recorded(attention.attention_weights) as logits,
        recorded(layer.frame_weight) as frame_logits,
        recorded(encoder) as encoded,
        recorded(within.in_proj if within else encoder) as projected,
    ):
        inputs = torch.cat([frame.inputs for frame in frames])
        model.segment_window(inputs, [frame.meta for frame in frames])
    *_, before, last = decoded[0]
    num_points = attention.num_points
    shape = attention.num_heads, attention.num_levels * num_points
    weights = logits[0][0].float().unflatten(-1, shape).softmax(-1).flatten(-2)
    # A point's offset is in half the sides of the box that the layer starts from, over the number
    # of points.
    steps = offsets[0][0].float().unflatten(-1, (-1, 2)) / num_points
    start = before.boxes[0, :, :, None].float()
    points = start[..., :2] + steps * start[..., 2:] * 0.5
    classes = slice(
        model.decoder.first_class, model.decoder.first_class + model.decoder.num_classes
    )
    return Looks(
        scores=last.logits[0, :, classes].sigmoid().cpu(),
        boxes=last.boxes[0].cpu(),
        points=points.cpu(),
        weights=weights.cpu(),
        frame_weights=frame_logits[0][0].float().softmax(0)[..., 0].cpu(),
        over_time=attention_over_time(projected[0][0], within.num_heads, encoded[0].levels)
        if within
        else None,
    )


def attention_over_time(projected: Tensor, num_heads: int, levels) -> Tensor:
    """Attention of each position of the finest scale to itself in all frames.

    Args:
        projected: (T, P, 3C) queries, keys and values of all scales.
        num_heads: Of the attention.
        levels: The scales.

    Returns:
        (T, T, h, w), mean over the heads.
    """
    finest = levels.split(projected)[0].float()
    query, key = (x.unflatten(-1, (num_heads, -1)) for x in finest.chunk(3, dim=-1)[:2])
    scores = torch.einsum("tpmc,spmc->tspm", query, key) / query.shape[-1] ** 0.5
    return scores.softmax(1).mean(-1).unflatten(-1, levels.shapes[0]).cpu()


def best_queries(model: MSSTSVIS, scores: Tensor, count: int) -> list[tuple[int, int, int]]:
    """Queries with the best scores, each with its rank as a track and its class.

    A query may be several tracks of a window, one for each class; its best one counts.
    """
    found: dict[int, tuple[int, int, int]] = {}
    pairs = scores.flatten().argsort(descending=True).tolist()
    for rank, pair in enumerate(pairs[: model.tracks_per_window]):
        query, label = divmod(pair, scores.shape[1])
        found.setdefault(query, (query, rank, label))
    return list(found.values())[:count]
