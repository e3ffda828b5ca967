"""Time MaskProp's propagation in two orders of computation, side by side.

*Plain* is the order of the paper: mmcv's deformable convolution of every instance's C features,
sum, attention, 1 x 1 convolution. *Folded* is that of ``PropagationHead.forward``.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from options import add_device
from rich.console import Console
from rich.table import Table
from running import synchronize
from torch import Tensor

from mmvis_plugin.models import PropagationHead

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


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


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
    times = {}
    for _ in range(repeats):
        for order in (plain, folded):
            with torch.no_grad():
                times.setdefault((order, "forward"), []).append(
                    seconds(lambda order=order: order(head, key, frames, masks), device)
                )
            times.setdefault((order, "both"), []).append(
                seconds(
                    lambda order=order: order(head, key, frames, masks).sum().backward(), device
                )
            )
    medians = {key: statistics.median(values) * 1000 for key, values in times.items()}
    cells = [
        f"{medians[plain, part]:.1f} / {medians[folded, part]:.1f} "
        f"({medians[plain, part] / medians[folded, part]:.0f}x)"
        for part in ("forward", "both")
    ]
    return [name, *cells, f"{difference:.0e}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: OMP_NUM_THREADS=1 python benchmarks/maskprop_propagation.py --repeats 5",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        metavar="N",
        help="runs of each, of which the median counts (default: %(default)s)",
    )
    add_device(parser)
    arguments = parser.parse_args()
    table = Table("setting", "forward, ms", "with backward, ms", "largest difference")
    for name in SETTINGS:
        table.add_row(*compare(name, arguments.repeats, torch.device(arguments.device)))
    console = Console()
    console.print("median of each, plain / folded")
    console.print(table)


if __name__ == "__main__":
    main()
