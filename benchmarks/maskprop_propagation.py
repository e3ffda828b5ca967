"""Time MaskProp's propagation in two orders of computation, side by side.

*Plain* is the order of the paper: mmcv's deformable convolution of every instance's C features,
sum, attention, 1 x 1 convolution. *Folded* is that of ``PropagationHead.forward``.
"""

from functools import partial

import harness
import torch
from torch import Tensor

from mmvis_plugin.models import PropagationHead

EXAMPLE = """example:
  OMP_NUM_THREADS=1 python benchmarks/maskprop_propagation.py --repeats 5"""
# name: channels, groups of the normalisation, grid, frames of the clip, instances
SETTINGS = {
    "shapes, training": (64, 16, (12, 16), 3, 4),
    "shapes, test": (64, 16, (12, 16), 9, 4),
    "360 x 640, T = 6": (128, 32, (48, 80), 13, 10),
}


def plain(head: PropagationHead, key: Tensor, frames: Tensor, masks: Tensor) -> Tensor:
    """Mask logits (N, T, H, W) in the paper's order of steps."""
    features = head.propagated_features(key, frames, masks) + frames
    logits = head.predict(features.flatten(0, 1)).view(len(masks), len(frames), *masks.shape[-2:])
    attention = head.attention(frames).sigmoid()[:, 0]
    return torch.logit(attention * logits.softmax(0), eps=1e-6)


def folded(head: PropagationHead, key: Tensor, frames: Tensor, masks: Tensor) -> Tensor:
    """The same logits as the head computes them."""
    clip_inds = torch.zeros(len(masks), dtype=torch.long, device=masks.device)
    return head(key[None], frames[None], masks, clip_inds)


def compare(name: str, repeats: int, device: torch.device) -> list[str]:
    """A row of the table: both orders in turn, forward and forward with backward."""
    channels, groups, grid, num_frames, num_instances = SETTINGS[name]
    torch.manual_seed(0)
    head = PropagationHead(channels, channels=channels, norm_cfg=dict(type="GN", num_groups=groups))
    torch.nn.init.normal_(head.offset.bias, std=3)
    head.to(device)
    frames = torch.randn(num_frames, channels, *grid, device=device)
    masks = torch.rand(num_instances, *grid, device=device)
    key = frames[num_frames // 2]
    difference = (plain(head, key, frames, masks) - folded(head, key, frames, masks)).abs().max()

    def forward(order) -> None:
        with torch.no_grad():
            order(head, key, frames, masks)

    def both(order) -> None:
        order(head, key, frames, masks).sum().backward()

    runs = {
        (order, part): partial(part, order) for order in (plain, folded) for part in (forward, both)
    }
    medians = {run: 1000 * t.wall for run, t in harness.in_turns(runs, repeats, device).items()}
    cells = [
        f"{medians[plain, part]:.1f} / {medians[folded, part]:.1f} "
        f"({medians[plain, part] / medians[folded, part]:.0f}x)"
        for part in (forward, both)
    ]
    return [name, *cells, f"{difference:.0e}"]


def main() -> None:
    parser = harness.make_parser(__doc__, EXAMPLE)
    harness.add_option(
        parser, "--repeats", harness.positive, "N", "runs of each, of which the median counts", 5
    )
    harness.add_device(parser)
    args = parser.parse_args()
    print("median of each, plain / folded\n")
    harness.print_table(
        ["setting", "forward, ms", "with backward, ms", "largest difference"],
        (compare(name, args.repeats, torch.device(args.device)) for name in SETTINGS),
    )


if __name__ == "__main__":
    main()
