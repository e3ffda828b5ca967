"""What a text on a command line may be: a number, a file that is there, the name of a config.

Types for ``argparse``; of the standard library alone, as :mod:`command_line` is.
"""

import argparse
import difflib
import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    return _number(text, int, lambda number: number >= 1, "a whole number of 1 or more")


def whole(text: str) -> int:
    """A whole number of 0 or more."""
    return _number(text, int, lambda number: number >= 0, "a whole number of 0 or more")


def score(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, float, lambda number: 0 <= number <= 1, "a number from 0 to 1")


def amount(text: str) -> float:
    """A finite number above 0."""
    return _number(text, float, lambda n: n > 0 and math.isfinite(n), "a number above 0")


def rate(text: str) -> Fraction:
    """A frame rate: 25, 29.97 or 30000/1001."""
    return _number(text, Fraction, lambda n: n > 0, "a frame rate, such as 25 or 30000/1001")


def _number(text: str, kind: Callable, fits: Callable, wanted: str):
    try:
        number = kind(text)
    except (ValueError, ArithmeticError):
        number = None
    if number is None or not fits(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return number


def existing(text: str) -> Path:
    """A file or folder that is there."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{text}: there is no such file or folder")
    return path


def picture(text: str) -> str:
    """Name of a PNG to write."""
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text}: the name must end in .png")
    return text


def source(text: str) -> str:
    """A video: a file or folder that is there, a pattern, a camera's number or an address."""
    if not (text.isdecimal() or "://" in text or re.search(r"[*?\[]", text)):
        existing(text)
    return text


def config(text: str) -> str:
    """A config file that is there, or the name of one that comes with the package."""
    name = Path(text).name.removesuffix(".py")
    if Path(text).is_file() or "::" in text:
        return text
    shipped = {path.stem for path in (ROOT / "configs").glob("[!_]*/**/*.py")}
    if name not in shipped:
        close = difflib.get_close_matches(name, shipped)
        hint = f"; close to it: {', '.join(close)}" if close else ""
        raise argparse.ArgumentTypeError(
            f"{text}: no such config file, and none of the {len(shipped)} configs that come with "
            f"the package has this name{hint}"
        )
    return text


def checkpoint(text: str) -> str:
    """A checkpoint: an address, or a file that is there."""
    if "://" not in text and not Path(text).expanduser().is_file():
        raise argparse.ArgumentTypeError(f"The checkpoint {text} does not exist.")
    return text


def setting(text: str) -> str:
    """KEY=VALUE."""
    if not re.match(r"[^=\s]+=", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return text
