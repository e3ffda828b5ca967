"""Options that several benchmarks have."""

import argparse

import torch


def add_size(parser: argparse.ArgumentParser) -> None:
    """Add ``--size``: height and width of the frames."""
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=[360, 640],
        metavar=("HEIGHT", "WIDTH"),
        help="of the frames, in pixels (default: 360 640)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``: a GPU if there is one."""
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        metavar="NAME",
        help="where to run, such as cpu or cuda:0 (default: a GPU if there is one)",
    )
