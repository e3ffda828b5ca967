"""Show how MaskProp carries the features of instances from one frame to the others of its clip.

The figure of the paper (slides, Figure 5): a section for each instance of the key frame, in it the
frames of the clip. Bright is where the propagated features g of that instance are large; the
outline is the mask that the model propagates there, in the colour of the instance's identity. The
figure has one channel chosen at random (--channel); here it is by default the Euclidean norm over
all channels.
"""

import numpy as np
import torch
from tqdm import tqdm

from mmvis_plugin.apis import VideoReader
from mmvis_plugin.apis.command_line import (
    ModelFrame,
    add_channel,
    add_key_frame,
    frame_at,
    model_frames,
    open_model,
    open_video,
    picture_parser,
    run_tool,
)
from mmvis_plugin.models import MaskProp, PropagationHead
from mmvis_plugin.models.maskprop.maskprop import ObservedFrame
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
    draw_outline,
    heat_sheet,
    paint_heat,
)

EXAMPLES = """examples:
  python tools/analysis_tools/show_maskprop_features.py clip.mp4 maskprop_r18_shapes --out g.png
  python tools/analysis_tools/show_maskprop_features.py frames/ CONFIG.py CHECKPOINT.pth \\
      --out g.png --at 40 --frames 5 --channel 17
"""


def parse_args():
    parser = picture_parser(__doc__, EXAMPLES, 5, "frames of the clip to show, evenly over it")
    add_key_frame(parser, "key frame")
    add_channel(parser)
    parser.add_argument(
        "--score-thr",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="leave out instances that score less (default: %(default)s)",
    )
    return parser.parse_args()


@torch.no_grad()
def show(args) -> None:
    model = open_model(args, MaskProp)
    if not isinstance(model.propagation_head, PropagationHead):
        kind = type(model.propagation_head).__name__
        raise ValueError(f"{args.config}: {kind} propagates no features, PropagationHead does")
    with open_video(args) as reader:
        key = frame_at(args.at, reader.num_frames)
        frames, first, clip, ids = segment_clip(model, reader, key)
    instances = clip[key - first].instances
    shown = (instances.scores >= args.score_thr).cpu()
    instances, ids = instances[shown], ids[shown.numpy()]
    if len(ids) == 0:
        raise ValueError(f"frame {key}: no instance scores {args.score_thr:g}; try another --at")

    times = sorted({*spread(len(clip), args.frames)[1:-1], 0, key - first, len(clip) - 1})
    features = torch.stack([clip[t].features for t in times])
    key_features, masks = clip[key - first].features, instances.grid_masks
    head = model.propagation_head
    heat = activation(head.propagated_features(key_features, features, masks), args.channel)
    propagated = head.propagate(key_features, features, masks)

    captions = [f"{first + t}{' (key)' * (first + t == key)}" for t in times]
    pictures = [resize_picture(frames[first + t].image, args.width) for t in times]
    sections = [Section(pictures, captions, f"{reader.name}, the clip around frame {key}")]
    for i, instance_id in enumerate(ids.tolist()):
        color = track_color(instance_id)
        label, score = int(instances.labels[i]), float(instances.scores[i])
        title = f"{model.dataset_meta['classes'][label]} {instance_id} {score:.2f}"
        section = Section(captions=captions, title=title, color=color)
        for n, t in enumerate(times):
            frame = frames[first + t]
            maps = torch.stack([heat[i, n], propagated[i, n]])
            size = pictures[n].shape[1::-1]
            values, mask = at_frame_size(maps, frame.padded_size, frame.meta, size)
            picture = paint_heat(pictures[n], values, float(heat.max()))
            draw_outline(picture, mask > 0.5, color)
            section.pictures.append(picture)
        sections.append(section)
    what = "norm of g" if args.channel is None else f"channel {args.channel} of g"
    write_picture(heat_sheet(sections, args.columns, what, float(heat.max())), args.out)


def segment_clip(
    model: MaskProp, reader: VideoReader, key: int
) -> tuple[dict[int, ModelFrame], int, list[ObservedFrame], np.ndarray]:
    """Run the model until the clip around a key frame is tracked.

    Returns:
        The frames by number, the number of the clip's first frame, what the model keeps of the
        clip's frames, and the identities of the key frame's instances.
    """
    state = model.start_video({})
    frames, num_tracked = {}, 0
    stop = min(key + model.reach + 1, reader.num_frames)
    for number, frame in enumerate(tqdm(model_frames(model, reader, stop), total=stop)):
        num_tracked += len(model.step(state, frame.inputs, [frame.meta]))
        if number >= key - model.reach:
            frames[number] = frame
    first, clip = model.clip(state, key)
    if num_tracked > key:
        return frames, first, clip, state.history[-1].ids
    model.finish(state)  # the video ends within the clip
    return frames, first, clip, state.history[key - state.num_frames].ids


def main() -> None:
    run_tool(show, parse_args())


if __name__ == "__main__":
    main()
