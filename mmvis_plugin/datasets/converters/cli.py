"""What the command lines of the converters share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from tqdm import tqdm

from .builder import Conversion, ConversionError, Progress


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Parser with ``--out`` and, at the end of its help, an example."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.json", help="JSON to write"
    )
    return parser


def show_progress(items: Collection, unit: str) -> Iterable:
    """The bar that the tools show for what they loop over."""
    return tqdm(items, unit=unit)


def run(convert: Callable[[Progress], Conversion], out: Path) -> None:
    """Convert, write and say what was written; end with one line if it cannot be done."""
    try:
        print(convert(show_progress).write(out))
    except (ConversionError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
