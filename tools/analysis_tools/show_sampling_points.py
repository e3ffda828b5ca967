"""Show where and when the instance queries of SeqFormer and MS-STS VIS look.

A section for each of the best queries: in each frame, the points that its box query samples in the
last decoder layer (all heads and scales), brighter and larger the more weight they have, and the
box it gives there, in the colour of the identity; then the temporal attention, the weights that the
instance query gives all frames of the window, as bars whose highest is told above them.

With MS-STS attention in the encoder one more section: for each position of the frame --at, how much
it attends to the same position in the other frames (last layer, finest scale, mean over heads).

The frames are those of one window, all of a video that is no longer than that. Colours are those of
the painted video in the first window; later ones are linked to it by their masks.
"""

from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmvis_plugin.apis import VideoReader
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
from mmvis_plugin.models import MSSTSVIS
from mmvis_plugin.visualization import track_color
from mmvis_plugin.visualization.contact_sheet import (
    Section,
    resize_picture,
    spread,
    write_picture,
)
from mmvis_plugin.visualization.feature_maps import (
    at_frame_size,
    heat_colors,
    heat_sheet,
    paint_heat,
    recorded,
)

EXAMPLES = """examples:
  python tools/analysis_tools/show_sampling_points.py clip.mp4 mssts_r18_shapes --out points.png
  python tools/analysis_tools/show_sampling_points.py frames/ CONFIG.py CHECKPOINT.pth \\
      --out points.png --at 20 --frames 7 --queries 2
"""


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


def parse_args():
    parser = picture_parser(__doc__, EXAMPLES, 4, "frames of the window to show, evenly over it")
    add_key_frame(parser, "a frame of the window to show")
    parser.add_argument(
        "--queries",
        type=positive,
        default=4,
        metavar="N",
        help="show the N best queries (default: %(default)s)",
    )
    return parser.parse_args()


@torch.no_grad()
def show(args) -> None:
    model = open_model(args, MSSTSVIS)
    with open_video(args) as reader:
        key = frame_at(args.at, reader.num_frames)
        first, frames = read_window(model, reader, key)
    looks = look(model, frames)
    times = spread(len(frames), args.frames)
    pictures = [resize_picture(frames[t].image, args.width) for t in times]
    captions = [str(first + t) for t in times]

    sections = [
        Section(pictures, captions, f"{reader.name}, frames {first} to {first + len(frames) - 1}")
    ]
    for query, track, label in best_queries(model, looks.scores, args.queries):
        name, score = model.dataset_meta["classes"][label], float(looks.scores[query].max())
        frame_weights = looks.frame_weights[:, query].numpy()
        section = Section(title=f"{name} {track} {score:.2f}", color=track_color(track))
        section.captions = [*captions, f"of all frames, to {frame_weights.max():.2g}"]
        for t, picture in zip(times, pictures, strict=True):
            points, weights = looks.points[t, query].numpy(), looks.weights[t, query].numpy()
            drawn = draw_points(picture, points, weights / float(looks.weights.max()))
            draw_box(drawn, looks.boxes[t, query].numpy(), section.color)
            section.pictures.append(drawn)
        section.pictures.append(draw_bars(frame_weights, pictures[0].shape, section.color))
        sections.append(section)
    if looks.over_time is not None:
        sections.append(draw_attention(looks.over_time[key - first], frames, pictures, times))
        sections[-1].captions = captions
        sections[-1].title = f"MS-STS attention of the positions in frame {key} to frame ..."
    sheet = heat_sheet(sections, args.columns, "part of the largest weight", 1)
    write_picture(sheet, args.out)


def read_window(model: MSSTSVIS, reader: VideoReader, key: int) -> tuple[int, list[ModelFrame]]:
    """Read a window with a frame in its middle, as far as the video reaches.

    Args:
        model: Tells how long a window is.
        reader: The video, whose length is known.
        key: The frame.

    Returns:
        tuple[int, list[ModelFrame]]: The window's first frame, and all of its frames.
    """
    length = min(model.windows.length, reader.num_frames)
    first = min(max(key - length // 2, 0), reader.num_frames - length)
    frames = tqdm(model_frames(model, reader, first + length), total=first + length)
    # The frames before the window are let go as they come.
    return first, list(deque(frames, maxlen=length))


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


def draw_points(picture: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(P, 2) points on a grey picture; the brightest, of weight 1, last."""
    height, width = picture.shape[:2]
    drawn = paint_heat(picture, np.zeros((height, width), np.float32), 1)
    colors = heat_colors(weights).tolist()
    largest = max(2.0, min(height, width) / 50)
    for i in weights.argsort(kind="stable").tolist():
        x, y = points[i] * (width, height)
        # Far outside a point cannot be drawn, and OpenCV takes 32 bits.
        if abs(x) < 2 * width and abs(y) < 2 * height:
            radius = max(1, round(largest * float(weights[i]) ** 0.5))
            cv2.circle(drawn, (round(float(x) - 0.5), round(float(y) - 0.5)), radius, colors[i], -1)
    return drawn


def draw_box(picture: np.ndarray, box: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draw a box (cx, cy, w, h in widths and heights) on a picture."""
    size = np.array(picture.shape[1::-1])
    corners = [(box[:2] + sign * box[2:] / 2) * size for sign in (-1, 1)]
    ends = [tuple(corner.round().astype(int).tolist()) for corner in corners]
    cv2.rectangle(picture, *ends, color, 1)


def draw_bars(weights: np.ndarray, shape: tuple[int, ...], color: tuple) -> np.ndarray:
    """A bar a frame, the highest as high as the picture."""
    height, width = shape[:2]
    picture = np.full(shape, 255, np.uint8)
    edges = np.linspace(0, width, len(weights) + 1).round().astype(int)
    for left, right, weight in zip(edges, edges[1:], weights / weights.max(), strict=False):
        top = height - round(float(weight) * height)
        picture[top:, left : max(right - 1, left + 1)] = color
    return picture


def draw_attention(
    maps: Tensor, frames: list[ModelFrame], pictures: list[np.ndarray], times: list[int]
) -> Section:
    """(T, h, w) attention to each frame of the window, on the frames shown."""
    # The model cuts the padding off before it encodes a window.
    size = tuple(frames[0].meta["img_shape"][:2])
    section = Section()
    for t, picture in zip(times, pictures, strict=True):
        heat = at_frame_size(maps[t][None], size, frames[t].meta, picture.shape[1::-1])[0]
        section.pictures.append(paint_heat(picture, heat, float(maps[times].max())))
    return section


def main() -> None:
    run_tool(show, parse_args())


if __name__ == "__main__":
    main()
