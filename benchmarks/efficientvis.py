"""Time and memory of EfficientVIS at test time: by the length of a clip, and clip after clip.

Random frames and untrained weights: nearly every query has a mask in every frame, which is more
than in a real video. On a GPU the memory is the peak of PyTorch's allocator; on the CPU that of the
resident memory of a process that does nothing else. The bytes of the tensors that a running video
holds between two clips are counted as well.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import harness
import torch
from mmengine.logging import MMLogger

from mmvis_plugin.models import EfficientVIS

EXAMPLE = """example:
  python benchmarks/efficientvis.py configs/efficientvis/efficientvis_r50_ytvis19.py
  python benchmarks/efficientvis.py configs/efficientvis/efficientvis_r18_shapes.py \\
      --size 96 128 --clip-lengths 4 8 16"""


def main() -> None:
    args = parse_args()
    print(f"{args.config}, {args.size[0]} x {args.size[1]}, {args.device}, {args.clips} clips")
    harness.print_table(
        [
            "frames of a clip",
            "ms/frame",
            "peak MB",
            "peak MB/frame",
            "kB held first",
            "kB held last",
        ],
        (row_of(args, clip_length) for clip_length in args.clip_lengths),
    )


def row_of(args: argparse.Namespace, clip_length: int) -> list[str]:
    """Row of the table; the growth of the peak goes to the error stream."""
    rows = harness.in_own_process(measure, args, clip_length)
    warm = rows[1:] or rows  # the first clip also pays for what is set up once
    milliseconds = 1000 * statistics.median(row["seconds"] for row in warm) / clip_length
    peak = max(row["peak"] for row in rows) / harness.MEGABYTE
    growth = " ".join(f"{row['peak'] / harness.MEGABYTE:.0f}" for row in rows)
    harness.say(f"{clip_length} frames: peak MB after each clip: {growth}")
    held = [f"{rows[k]['held'] / 1024:.1f}" for k in (0, -1)]
    figures = f"{milliseconds:.1f}", f"{peak:.0f}", f"{peak / clip_length:.1f}"
    return [str(clip_length), *figures, *held]


def parse_args() -> argparse.Namespace:
    parser = harness.make_parser(__doc__, EXAMPLE)
    parser.add_argument("config", help="of an EfficientVIS: a file, or the name of a config")
    parser.add_argument(
        "--clip-lengths",
        type=harness.positive,
        nargs="+",
        default=[9, 18, 36],
        metavar="N",
        help="frames of a clip, each length measured by itself (default: 9 18 36)",
    )
    harness.add_option(parser, "--clips", harness.positive, "N", "length of the video in clips", 10)
    harness.add_size(parser)
    harness.add_device(parser)
    return parser.parse_args()


def measure(args: argparse.Namespace, clip_length: int) -> list[dict[str, float]]:
    """Segment a video of some clips.

    Returns:
        list[dict]: Per clip ``seconds``, ``peak`` bytes so far and ``held`` bytes after it.
    """
    model = build(args.config, clip_length).to(args.device).eval()
    state, rows = model.start_video({}), []
    height, width = args.size
    for number in range(args.clips):
        metas = [
            dict(
                frame_id=number * clip_length + t,
                ori_shape=(height, width),
                img_shape=(height, width),
                scale_factor=(1.0, 1.0),
            )
            for t in range(clip_length)
        ]
        frames = harness.random_frames(clip_length, args.size, args.device)
        seconds = harness.timed(partial(model.step, state, frames, metas), args.device)[0].wall
        rows.append(
            dict(seconds=seconds, peak=harness.peak_memory(args.device), held=held_bytes(state))
        )
    return rows


def build(config: str, clip_length: int) -> EfficientVIS:
    """The untrained model of a config with clips of another length."""
    model = harness.untrained_model(config, clip_length=clip_length)
    MMLogger.get_instance("benchmark", log_level="ERROR")  # init_weights tells of each parameter
    model.init_weights()
    return model


def held_bytes(state: object) -> int:
    """Bytes of all tensors that a running video's state leads to."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(state))


def tensors_in(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    if hasattr(value, "__dataclass_fields__"):
        value = vars(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from tensors_in(item)


if __name__ == "__main__":
    main()
