"""Run-length encoded masks: made, measured and intersected without decoding them.

COCO's RLE counts pixels down the columns of a mask, in turns outside (a gap) and inside of the
object (a run). Its compressed form writes each number in characters of 5 bits, low ones first,
offset by 48; bit 6 says that more follow, and from the fourth number on it is the difference to the
number two before that is written. Here the text becomes the positions at which runs begin and end,
on which everything else is integer arithmetic. :mod:`mmvis_plugin.ytvis.masks` makes compressed
text of all forms that occur in annotation files.

The loops over characters (:mod:`mmvis_plugin.ytvis.rle_loops`) are compiled by Numba, which is
imported when the first mask is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

NO_TEXT = "the counts of an RLE must be a non-empty string"


@cache
def loops():
    """The module of the compiled loops."""
    from . import rle_loops

    return rle_loops


class RLEError(ValueError):
    """A mask that cannot be used. ``index`` is its place in the list that was given, if any."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class Runs(NamedTuple):
    """The runs of n masks.

    Attributes:
        bounds: (stops[-1],) uint32, or int64 where they are too large for it: the begin and end of
            each run in turns, counted in pixels down the columns; mask after mask.
        stops: (n,) int64, where in ``bounds`` those of each mask end.
        areas: (n,) int64, pixels of each mask.
        pixels: (n,) int64, how many pixels each mask describes, set or not; -1 if it is no RLE.
    """

    bounds: np.ndarray
    stops: np.ndarray
    areas: np.ndarray
    pixels: np.ndarray


# --- encoding ---------------------------------------------------------------------------------


def encode_masks(masks: np.ndarray | torch.Tensor) -> list[dict]:
    """Encode dense masks.

    A run begins or ends where a pixel differs from the one above it, or the first of a column from
    the last of the column before: rows are compared with rows, and nothing is turned to columns,
    which is what takes pycocotools most of its time.

    Args:
        masks: (n, height, width), of bool or integers, on any device; all but 0 is foreground.

    Returns:
        list: A compressed RLE (``counts`` a str) per mask.
    """
    _, height, width = masks.shape
    if not isinstance(masks, np.ndarray) and masks.device.type == "cpu":
        masks = masks.numpy()
    if isinstance(masks, np.ndarray):
        all_changes = (_changes(mask) for mask in masks.astype(bool, copy=False))
    else:
        all_changes = _changes_on_device(masks != 0)
    rles = []
    for inside, ends in all_changes:
        positions = np.sort(np.concatenate([inside, ends]))
        runs = np.diff(positions, prepend=0, append=height * width)
        rles.append({"size": [height, width], "counts": compress_runs(runs)})
    return rles


def _changes(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, counted down the columns, that differ from the one before; of a (h, w) mask.

    Returns:
        tuple: Those within the columns, and those at the top of a column.
    """
    height, width = mask.shape
    y, x = np.divmod(np.flatnonzero(mask[1:] != mask[:-1]), width)
    return x * height + y + 1, _changes_at_tops(mask[0], mask[-1], height)


def _changes_at_tops(top: np.ndarray, bottom: np.ndarray, height: int) -> np.ndarray:
    before = np.concatenate([[False], bottom[:-1]])
    return np.flatnonzero(top != before) * height


def _changes_on_device(masks: torch.Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """:func:`_changes` of (n, h, w) masks; only the positions are copied to the CPU."""
    height = masks.shape[1]
    index, y, x = (masks[:, 1:] != masks[:, :-1]).nonzero().cpu().numpy().T
    inside = x * height + y + 1
    bounds = np.searchsorted(index, np.arange(len(masks) + 1))
    tops, bottoms = masks[:, 0].cpu().numpy(), masks[:, -1].cpu().numpy()
    for i, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
        yield inside[bounds[i] : bounds[i + 1]], _changes_at_tops(top, bottom, height)


def compress_runs(runs: np.ndarray) -> str:
    """Give the ``counts`` of a compressed RLE.

    Args:
        runs: (n,) integers, lengths of gaps and runs in turns, a gap first.
    """
    runs = np.ascontiguousarray(runs, dtype=np.int64)
    chars = np.empty(13 * len(runs), dtype=np.uint8)  # 5 bits each
    length = loops().compress(runs, chars)
    return chars[:length].tobytes().decode("ascii")


# --- measuring --------------------------------------------------------------------------------


def mask_areas(counts: Sequence[str], height: int, width: int) -> np.ndarray:
    """Check compressed RLEs and count their pixels.

    pycocotools does not check what it is given: on an RLE of more or fewer pixels than its size it
    reads out of bounds or never returns.

    Args:
        counts: Texts of n compressed RLEs, ``""`` where an object is absent.
        height: Of the frames, in pixels.
        width: Of the frames, in pixels.

    Returns:
        np.ndarray: (n,) int64.

    Raises:
        RLEError: One of them does not describe a mask of this size; ``index`` says which.
    """
    runs = decode_runs(counts)
    for index in (runs.pixels != height * width).nonzero()[0].tolist():
        if counts[index]:
            raise RLEError(what_is_wrong(counts[index], runs.pixels[index], height, width), index)
    return runs.areas


def what_is_wrong(counts: str | bytes, pixels: int, height: int, width: int) -> str:
    """Say why a mask is not one of the given size.

    Args:
        counts: Text of the mask.
        pixels: It describes, as in :class:`Runs`.
        height: It should have, in pixels.
        width: It should have, in pixels.
    """
    if not len(counts):
        return NO_TEXT
    if counts[:2] in ("b'", 'b"'):
        return "the counts are Python's text of bytes (b'...'): write counts.decode() instead"
    if pixels < 0:
        return "the counts of the RLE are cut off or hold what is not RLE"
    return f"the RLE describes {pixels} pixels, not a mask of {height} x {width} pixels"


def rle_pixels(counts: Sequence[str | bytes]) -> np.ndarray:
    """Number of pixels, set or not, that compressed RLEs describe.

    Args:
        counts: The ``counts`` of n compressed RLEs.

    Returns:
        np.ndarray: (n,) int64; -1 for a text that is no RLE.
    """
    return decode_runs(counts).pixels


def decode_runs(counts: Sequence[str | bytes], offsets: np.ndarray | None = None) -> Runs:
    """Read compressed RLEs.

    Args:
        counts: The ``counts`` of n compressed RLEs.
        offsets: (n,) int64, added to the positions of each mask. A track's masks offset by the
            pixels of the frames before make one mask of the whole video.

    Returns:
        Runs: Without bounds for a mask of which ``pixels`` is -1.
    """
    try:
        text = "".join(counts)
    except TypeError:  # bytes among them
        text = ""
    if not text or not text.isascii():
        counts = [_ascii_text(text) for text in counts]
        text = "".join(counts)
    stops = np.cumsum(np.fromiter(map(len, counts), np.int64, len(counts)))
    if offsets is None:
        offsets = np.zeros(len(counts), dtype=np.int64)
    run_stops, areas, pixels = np.empty((3, len(counts)), dtype=np.int64)
    chars = np.frombuffer(text.encode("ascii"), dtype=np.int8)
    # Half the memory is half the time, where it is enough; NumPy itself refuses what is too large.
    for dtype in (np.uint32, np.int64):
        bounds = np.empty(len(text), dtype=dtype)
        loops().decode(chars, stops, offsets, bounds, run_stops, areas, pixels)
        if (offsets + pixels).max(initial=0) <= _LARGEST[dtype]:
            break
    return Runs(bounds[: run_stops[-1] if len(counts) else 0], run_stops, areas, pixels)


_LARGEST = {dtype: np.iinfo(dtype).max for dtype in (np.uint32, np.int64)}


def _ascii_text(counts: str | bytes) -> str:
    text = counts if isinstance(counts, str) else counts.decode("latin-1")
    return text if text.isascii() else " "  # no character of an RLE


def intersections(
    bounds: np.ndarray, spans: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Count the pixels that pairs of masks share.

    Args:
        bounds: Of :class:`Runs`.
        spans: (n, 2) int64, where in ``bounds`` those of each mask begin and end. Those of masks
            that follow each other, each offset beyond the one before, count as one.
        first: (p,) int64, index in ``spans`` of one mask of each pair.
        second: (p,) int64, that of the other.

    Returns:
        np.ndarray: (p,) int64.
    """
    shared = np.empty(len(first), dtype=np.int64)
    loops().intersect(bounds, spans, first, second, shared)
    return shared
