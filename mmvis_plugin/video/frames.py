"""What every source of frames gives, and the error of this package."""

from collections.abc import Callable, Generator
from fractions import Fraction
from typing import NamedTuple

import numpy as np


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file and the frame."""


class BrokenFrame(Exception):
    """One frame cannot be decoded; those after it may well."""


class FrameTiming(NamedTuple):
    """When a frame is shown: both in seconds, ``start`` counted from the first frame."""

    start: Fraction
    duration: Fraction


class Frame(NamedTuple):
    """A frame that is decoded only if it is wanted.

    Attributes:
        decode: Gives the image, or raises :class:`BrokenFrame`.
        timing: When it is shown.
        name: For messages.
    """

    decode: Callable[[], np.ndarray]
    timing: FrameTiming
    name: str


class Source(NamedTuple):
    """A source that is open.

    Attributes:
        frames: Its frames; closing the generator releases the source.
        fps: Frames per second.
        num_frames: Number of frames, if the source says.
        expected_frames: The same, estimated from a file's duration.
    """

    frames: Generator[Frame, None, None]
    fps: Fraction
    num_frames: int | None
    expected_frames: int | None = None


def check_frame(frame: np.ndarray, number: int) -> None:
    """Make sure that a frame is one.

    Raises:
        ValueError: If it is not a uint8 array of shape (H, W, 3); the message has its number.
    """
    is_array = isinstance(frame, np.ndarray)
    if not is_array or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        found = f"{frame.dtype} of shape {frame.shape}" if is_array else type(frame).__name__
        raise ValueError(f"frame {number} is {found}, not a uint8 array of shape (H, W, 3)")


def regular_timing(number: int, fps: Fraction) -> FrameTiming:
    """The timing of a frame in a video of constant rate."""
    return FrameTiming(number / fps, 1 / fps)


def as_fraction(fps: Fraction | float) -> Fraction:
    """A frame rate as a fraction with a denominator up to a million."""
    return Fraction(fps).limit_denominator(1_000_000)
