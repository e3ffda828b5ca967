"""Frames per second of STMask, frame by frame as in a stream.

A frame counts from its resized and normalised pixels to run-length encoded masks at its size:
network, temporal fusion, tracker. Weights and frames are random; before each frame the state of the
video is set to a given number of instances, all of which are carried on and shown. (Without trained
weights nothing is detected. What detections add is their masks and the similarities: little beside
the network.) On a CPU that others use as well, compare processor time.
"""

import argparse
from functools import partial

import harness
import torch
from mmengine.structures import InstanceData

from mmvis_plugin.models.stmask import STMask

EXAMPLE = """example:
  python benchmarks/stmask_fps.py configs/stmask/stmask_r50-dcn_fca-ada_ytvis19.py --instances 10"""


def main() -> None:
    args = parse_args()
    model = harness.untrained_model(args.config).to(args.device).eval()
    seconds = harness.combine(measure(model, args))
    print(
        f"{args.config}, {args.size[0]} x {args.size[1]}, {args.instances} instances, "
        f"{args.device}, {torch.get_num_threads()} threads, medians of {args.frames} frames"
    )
    print(f"  {1 / seconds.wall:.2f} frames/s")
    print(f"  {seconds.processor:.3f} s of processor time per frame")


def parse_args() -> argparse.Namespace:
    parser = harness.make_parser(__doc__, EXAMPLE)
    parser.add_argument("config", help="of an STMask: a file, or the name of a config")
    harness.add_size(parser)
    instances = "instances that are carried to each frame"
    harness.add_option(parser, "--instances", harness.positive, "N", instances, 10)
    harness.add_option(parser, "--frames", harness.positive, "N", "frames to time", 20)
    harness.add_option(
        parser, "--warmup", harness.whole, "N", "frames before them, which do not count", 3
    )
    harness.add_device(parser)
    return parser.parse_args()


def measure(model: STMask, args: argparse.Namespace) -> list[harness.Seconds]:
    """Time of each frame after the warm-up."""
    height, width = args.size
    meta = dict(ori_shape=(height, width), img_shape=(height, width))
    state = model.start_video({})
    times = []
    for number in range(args.warmup + args.frames):
        frame = harness.random_frames(1, args.size, args.device)
        if number > 0:  # temporal fusion needs a frame before
            state.tracks = random_tracks(state.tracks, args.instances)
        times.append(harness.timed(partial(model.step, state, frame, [meta]), args.device)[0])
    return times[args.warmup :]


def random_tracks(like: InstanceData, count: int) -> InstanceData:
    """Instances seen in the last frame, with boxes of up to half the frame's sides."""
    corners = 0.5 * torch.rand(count, 2)
    sides = 0.1 + 0.4 * torch.rand(count, 2)
    tracks = dict(
        bboxes=torch.cat([corners, corners + sides], dim=1),
        scores=torch.ones(count),
        labels=torch.zeros(count),
        coeffs=torch.randn(count, *like.coeffs.shape[1:]),
        embeddings=torch.randn(count, *like.embeddings.shape[1:]),
        masks=torch.ones(count, *like.masks.shape[1:]),
        ids=torch.arange(count),
        gaps=torch.zeros(count),
    )
    return InstanceData(**{name: values.to(like[name]) for name, values in tracks.items()})


if __name__ == "__main__":
    main()
