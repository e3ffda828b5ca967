"""Time and memory of the encoder of SeqFormer and MS-STS VIS, beside a loop over the frames.

The loop does what SeqFormer's repository does: it projects the features of all frames together and
samples them frame by frame, on the CPU with grid_sample for each scale and a product of all samples
with their weights, on a GPU with mmcv's kernel. Both encoders have the same weights, and their
results are compared. Runs take turns; on the CPU time is the processor's, so that other programs
disturb it less. Memory is what a run takes at most beyond weights and input, on the CPU in a
process of its own.
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial

import harness
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from torch import Tensor

from mmvis_plugin.models.mssts.deformable import (
    FeatureLevels,
    FrameDeformableAttention,
    sample_levels,
)
from mmvis_plugin.models.mssts.encoder import ClipFeatures, SeqFormerEncoder

EXAMPLE = """example:
  OMP_NUM_THREADS=1 python benchmarks/mssts_encoder.py
  python benchmarks/mssts_encoder.py --frames 36 --layers 3 --train --device cuda"""
STRIDES = (8, 16, 32, 64)
MS_STS = {
    "MS-STS, intra": dict(inter=False),
    "MS-STS, inter": dict(intra=False),
    "MS-STS, both": {},
}
ENCODERS = ("loop over frames", "SeqFormer", *MS_STS)


def main() -> None:
    args = parse_args()
    torch.manual_seed(0)
    features, position = random_features(args)
    encoders = {name: build(args, name) for name in ENCODERS}
    check_equal(*(encoders[name] for name in ENCODERS[:2]), features, position)
    runs = {name: partial(run, of, features, position, args.train) for name, of in encoders.items()}
    # The first run also pays for what is set up once.
    medians = harness.in_turns(runs, args.repeats, args.device, warmup=1)
    clock = "wall" if position.is_cuda else "processor"
    seconds = {name: getattr(times, clock) / args.frames for name, times in medians.items()}
    step = "forward and backward" if args.train else "forward"
    print(
        f"{args.layers} layers, {args.frames} frames of {args.size[0]} x {args.size[1]}, {step}, "
        f"{args.device}, {torch.get_num_threads()} threads, median of {args.repeats}"
    )
    harness.print_table(
        ["encoder", "ms/frame", "times as fast as the loop", "MB/frame"],
        (
            [
                name,
                f"{seconds[name] * 1e3:.1f}",
                f"{seconds[ENCODERS[0]] / seconds[name]:.2f}",
                f"{harness.in_own_process(memory_of_run, args, name) / args.frames:.1f}",
            ]
            for name in ENCODERS
        ),
    )


def parse_args() -> argparse.Namespace:
    parser = harness.make_parser(__doc__, EXAMPLE)
    harness.add_option(parser, "--frames", harness.positive, "N", "frames of a clip", 5)
    harness.add_size(parser)
    harness.add_option(parser, "--layers", harness.positive, "N", "layers of the encoder", 6)
    harness.add_option(
        parser, "--repeats", harness.positive, "N", "runs of each, of which the median counts", 5
    )
    parser.add_argument("--train", action="store_true", help="run backward as well")
    harness.add_device(parser)
    return parser.parse_args()


def random_features(args: argparse.Namespace) -> tuple[ClipFeatures, Tensor]:
    """Features of one clip without padding, and their positions."""
    shapes = [tuple(-(-side // stride) for side in args.size) for stride in STRIDES]
    levels = FeatureLevels.of([torch.empty(*shape, device=args.device) for shape in shapes])
    num_tokens = sum(levels.counts())
    tokens = torch.randn(1, args.frames, num_tokens, 256, device=args.device)
    valid_ratios = torch.ones(1, len(shapes), 2, device=args.device)
    position = torch.randn(1, num_tokens, 256, device=args.device)
    return ClipFeatures(tokens, levels, valid_ratios, None), position


def build(args: argparse.Namespace, name: str) -> SeqFormerEncoder:
    """One of ``ENCODERS``; the weights that they share are the same."""
    torch.manual_seed(0)
    encoder = SeqFormerEncoder(num_layers=args.layers)
    for layer in encoder.layers:
        torch.nn.init.normal_(layer.attention.sampling_offsets.weight, std=0.05)
    if name == "loop over frames":
        encoder = with_loop(encoder)
    if name in MS_STS:
        weights = encoder.state_dict()
        ms_sts = dict(type="MSSTSAttention", **MS_STS[name])
        encoder = SeqFormerEncoder(num_layers=args.layers, ms_sts=ms_sts)
        encoder.load_state_dict(weights, strict=False)
    return encoder.to(args.device).eval()


class FrameLoopAttention(FrameDeformableAttention):
    """The same attention, sampling frame by frame."""

    def forward(
        self,
        query: Tensor,
        references: Tensor,
        memory: Tensor,
        levels: FeatureLevels,
        padding: Tensor | None = None,
    ) -> Tensor:
        """As in the parent class; here without padding and for points only."""
        heads, scales, points = self.num_heads, self.num_levels, self.num_points
        value = self.value_proj(memory).unflatten(-1, (heads, -1))
        offsets = self.sampling_offsets(query).unflatten(-1, (heads, scales, points, 2))
        weights = self.attention_weights(query).unflatten(-1, (heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, (scales, points))
        sampled = []
        for t in range(memory.shape[1]):
            locations = (
                references[:, t, :, None, :, None]
                + offsets[:, t] / levels.sizes.flip(1)[None, None, None, :, None]
            )
            inputs = value[:, t].contiguous(), locations, weights[:, t].contiguous()
            if value.is_cuda:
                sampled.append(sample_levels(inputs[0], levels, *inputs[1:]))
            else:
                sampled.append(
                    multi_scale_deformable_attn_pytorch(inputs[0], levels.shapes, *inputs[1:])
                )
        return torch.stack(sampled, dim=1)


def with_loop(encoder: SeqFormerEncoder) -> SeqFormerEncoder:
    """The same encoder with a loop over the frames."""
    encoder = copy.deepcopy(encoder)
    for layer in encoder.layers:
        ours = layer.attention
        layer.attention = FrameLoopAttention(
            ours.embed_dims, ours.num_heads, ours.num_levels, ours.num_points
        )
        layer.attention.load_state_dict(ours.state_dict())
    return encoder


@torch.no_grad()
def check_equal(
    first: Callable, second: Callable, features: ClipFeatures, position: Tensor
) -> None:
    """Raise ``RuntimeError`` unless two encoders give the same within 1e-4 of the largest."""
    one, other = (encoder(features, position).tokens for encoder in (first, second))
    difference = float((one - other).abs().max() / other.abs().max())
    if difference > 1e-4:
        raise RuntimeError(f"The encoders differ by {difference:.1e} of the largest feature")


def run(encoder: Callable, features: ClipFeatures, position: Tensor, train: bool) -> None:
    with torch.set_grad_enabled(train):
        tokens = encoder(features, position).tokens
        if train:
            tokens.sum().backward()


def memory_of_run(args: argparse.Namespace, name: str) -> float:
    """MB that a run takes at most, in a new process."""
    features, position = random_features(args)
    encoder = build(args, name)
    harness.reset_peak_memory(args.device)
    before = harness.peak_memory(args.device)
    run(encoder, features, position, args.train)
    harness.synchronize(args.device)
    return (harness.peak_memory(args.device) - before) / harness.MEGABYTE


if __name__ == "__main__":
    main()
