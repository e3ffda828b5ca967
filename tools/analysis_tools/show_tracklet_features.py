"""Show the tracklet features of EfficientVIS in the frames of a clip.

The paper's Figure 4: a section for each tracklet that is present in the clip, in it the frames.
Bright is where the tracklet feature o of the last stage is active (Equation 3: the RoI features of
the tracklet's proposal, filtered with the query's own filter), in the proposal it was taken from,
whose box is drawn in the colour of the identity; thin where the model says that the instance is
absent from the frame. The filter should leave the feature dark there, even if the proposal lies on
another instance.

What is shown of the feature's channels the paper does not tell; here it is the Euclidean norm, or
one channel (--channel). The scale reaches from the smallest to the largest value on the sheet: the
features end in a normalisation, and their norms differ little.
"""

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmvis_plugin.apis.command_line import (
    ModelFrame,
    add_channel,
    add_key_frame,
    frame_at,
    model_frames,
    open_model,
    open_video,
    picture_parser,
    positive,
    run_tool,
)
from mmvis_plugin.models import EfficientVIS
from mmvis_plugin.models.efficientvis.linking import ClipTracklets
from mmvis_plugin.models.efficientvis.tracklet_head import TrackletPredictions
from mmvis_plugin.models.maskprop.roi_masks import paste_masks
from mmvis_plugin.visualization import track_color
from mmvis_plugin.visualization.contact_sheet import (
    Section,
    resize_picture,
    spread,
    write_picture,
)
from mmvis_plugin.visualization.feature_maps import (
    activation,
    at_frame_size,
    heat_sheet,
    paint_heat,
    recorded,
)

EXAMPLES = """examples:
  python tools/analysis_tools/show_tracklet_features.py clip.mp4 efficientvis_r18_shapes --out o.png
  python tools/analysis_tools/show_tracklet_features.py frames/ CONFIG.py CHECKPOINT.pth \\
      --out o.png --at 40 --frames 4 --tracklets 3
"""


def parse_args():
    parser = picture_parser(__doc__, EXAMPLES, 4, "frames of the clip to show, evenly over it")
    add_key_frame(parser, "a frame of the clip to show")
    add_channel(parser)
    parser.add_argument(
        "--tracklets",
        type=positive,
        default=5,
        metavar="N",
        help="most tracklets to show (default: %(default)s)",
    )
    return parser.parse_args()


@torch.no_grad()
def show(args) -> None:
    model = open_model(args, EfficientVIS)
    with open_video(args) as reader:
        number = frame_at(args.at, reader.num_frames)
        first = number - number % model.clip_length
        frames, tracklets, ids, features, predictions = segment_clip(model, reader, first)

    # Present in most frames first, and of those the one with the highest probability.
    foreground = tracklets.probabilities[..., :-1].amax((1, 2))
    rank = tracklets.present.sum(1) + foreground
    queries = rank.argsort(descending=True)
    # Where nothing is present, as in an untrained model, there are only the absent ones to show.
    shown = queries[tracklets.present[queries].any(1)] if tracklets.present.any() else queries
    shown = shown[: args.tracklets].tolist()
    times = spread(len(frames), args.frames)
    heat = activation(features[0, shown][:, times], args.channel)
    boxes = predictions.mask_boxes[0, shown][:, times]
    top, low = float(heat.max()), float(heat.min())

    captions = [str(first + t) for t in times]
    pictures = [resize_picture(frames[t].image, args.width) for t in times]
    title = f"{reader.name}, frames {first} to {first + len(frames) - 1}"
    sections = [Section(pictures, captions, title)]
    for row, query in enumerate(shown):
        color = track_color(int(ids[query])) if ids[query] >= 0 else (128, 128, 128)
        section = Section(captions=captions, title=describe(model, tracklets, ids, query))
        section.color = color
        for column, t in enumerate(times):
            maps, box = heat[row, column], boxes[row, column]
            picture = draw_tracklet(pictures[column], frames[t], maps, box, top, low)
            thickness = 2 if tracklets.present[query, t] else 1
            draw_box(picture, box, frames[t], color, thickness)
            section.pictures.append(picture)
        sections.append(section)
    what = "norm of o" if args.channel is None else f"channel {args.channel} of o"
    write_picture(heat_sheet(sections, args.columns, what, top, low), args.out)


def segment_clip(
    model: EfficientVIS, reader, first: int
) -> tuple[list[ModelFrame], ClipTracklets, Tensor, Tensor, TrackletPredictions]:
    """Segment clip after clip up to the one that begins with a frame.

    Returns:
        Its frames, tracklets and their (N,) identities, (1, N, T, C, S, S) tracklet features of
        the last stage, and what that stage predicts.
    """
    links = model.linking.start(model.tracklet_head.initial_queries)
    stop = min(first + model.clip_length, reader.num_frames)
    clip: list[ModelFrame] = []
    for number, frame in enumerate(tqdm(model_frames(model, reader, stop), total=stop), 1):
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


def draw_tracklet(
    picture: np.ndarray, frame: ModelFrame, heat: Tensor, box: Tensor, top: float, low: float
) -> np.ndarray:
    """The (S, S) activation of a tracklet in its proposal, on the frame."""
    pasted = paste_masks(heat[None], box[None], 1, frame.padded_size)
    heat = at_frame_size(pasted, frame.padded_size, frame.meta, picture.shape[1::-1])[0]
    return paint_heat(picture, heat, top, low)


def draw_box(
    picture: np.ndarray, box: Tensor, frame: ModelFrame, color: tuple, thickness: int
) -> None:
    """Draw a box in pixels of the resized frame on a picture of it."""
    height, width = frame.meta["img_shape"][:2]
    scale = np.array([picture.shape[1] / width, picture.shape[0] / height] * 2)
    x1, y1, x2, y2 = (box.cpu().numpy() * scale).round().astype(int).tolist()
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), color, thickness)


def main() -> None:
    run_tool(show, parse_args())


if __name__ == "__main__":
    main()
