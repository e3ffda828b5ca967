"""Frames per second of STMask, frame by frame as in a stream.

A frame counts from its resized and normalised pixels to run-length encoded masks at its size:
network, temporal fusion, tracker. Weights and frames are random; before each frame the state of the
video is set to a given number of instances, all of which are carried on and shown. (Without trained
weights nothing is detected. What detections add is their masks and the similarities: little beside
the network.) On a CPU that others use as well, compare processor time.
"""

import argparse
import statistics
import time

import torch
from mmengine.structures import InstanceData
from options import add_device, add_size
from running import random_frames, synchronize, untrained_model

from mmvis_plugin.models.stmask import STMask

EXAMPLE = """example:
  python benchmarks/stmask_fps.py configs/stmask/stmask_r50-dcn_fca-ada_ytvis19.py --instances 10"""


def main() -> None:
    args = parse_args()
    model = untrained_model(args.config).to(args.device).eval()
    seconds, processor_seconds = measure(model, args)
    print(
        f"{args.config}, {args.size[0]} x {args.size[1]}, {args.instances} instances, "
        f"{args.device}, {torch.get_num_threads()} threads, medians of {args.frames} frames"
    )
    print(f"  {1 / statistics.median(seconds):.2f} frames/s")
    print(f"  {statistics.median(processor_seconds):.3f} s of processor time per frame")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="of an STMask: a file, or the name of a config")
    add_size(parser)
    parser.add_argument(
        "--instances",
        type=int,
        default=10,
        metavar="N",
        help="instances that are carried to each frame (default: %(default)s)",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=20,
        metavar="N",
        help="frames to time (default: %(default)s)",
    )
    parser.add_argument(
        "--warmup",
        type=int,
        default=3,
        metavar="N",
        help="frames before those, which do not count (default: %(default)s)",
    )
    add_device(parser)
    return parser.parse_args()


def measure(model: STMask, args: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Seconds on the clock, and of processor time, of each frame after the warm-up."""
    height, width = args.size
    meta = dict(ori_shape=(height, width), img_shape=(height, width))
    state = model.start_video({})
    seconds, processor_seconds = [], []
    for number in range(args.warmup + args.frames):
        frame = random_frames(1, args.size, args.device)
        if number > 0:  # temporal fusion needs a frame before
            state.tracks = random_tracks(state.tracks, args.instances)
        synchronize(args.device)
        start, processor_start = time.perf_counter(), time.process_time()
        model.step(state, frame, [meta])
        synchronize(args.device)
        seconds.append(time.perf_counter() - start)
        processor_seconds.append(time.process_time() - processor_start)
    return seconds[args.warmup :], processor_seconds[args.warmup :]


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
