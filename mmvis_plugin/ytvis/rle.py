"""Run-length encoded masks: made, checked, measured and intersected without decoding them.

COCO's RLE counts pixels down the columns of a mask, in turns outside (a gap) and inside of the
object (a run). Its compressed form writes each number in characters of 5 bits, low ones first,
offset by 48; bit 6 says that more follow, and from the fourth number on it is the difference to the
number two before that is written. All forms that occur in annotation files (polygons, lists of
numbers, compressed text) are made into compressed text here, and the text into the positions at
which runs begin and end, on which everything else is integer arithmetic.

The loops over characters are compiled by numba when they are first called, and kept on disk. They
let other threads run meanwhile.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from pycocotools import mask as mask_utils

# pycocotools walks along the edges of a polygon pixel by pixel, however long they are, and
# crashes on those that leave the range of its integers.
MAX_COORDINATE = 1e6

_WRONG_SIZE = "the RLE describes {} pixels, not a mask of {} x {} pixels"
_NO_TEXT = "the counts of an RLE must be a non-empty string"


def compiled(function: Callable) -> Callable:
    """Compile a function of numbers and arrays."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder for the cache can be written to
        return numba.njit(nogil=True)(function)


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


# --- parsing ----------------------------------------------------------------------------------


def parse_masks(masks: Any, length: int, height: int, width: int) -> list[dict | None]:
    """Give the masks of a track as compressed RLE.

    The text of a compressed RLE is not looked at; :func:`mask_areas` does that.

    Args:
        masks: A list with an entry per frame: a mask in any form that :func:`to_rle` knows, or
            nothing (null or an empty list) where the object is absent.
        length: Number of frames.
        height: Of the frames, in pixels.
        width: Of the frames, in pixels.

    Returns:
        list: A compressed RLE per frame, or something false where the object is absent.

    Raises:
        RLEError: It is no such list (``index`` is None), or a mask cannot be used (``index`` is
            its frame).
    """
    if not isinstance(masks, (list, tuple)) or len(masks) != length:
        got = len(masks) if isinstance(masks, (list, tuple)) else type(masks).__name__
        raise RLEError(f"must be a list of {length}, one for each of the frames, got {got}")
    if _all_compressed(list(filter(None, masks)), height, width):
        return masks
    rles = []
    for frame, mask in enumerate(masks):
        try:
            rles.append(to_rle(mask, height, width) if mask else None)
        except ValueError as error:
            raise RLEError(str(error), frame) from None
    return rles


def parse_counts(masks: Any, length: int, height: int, width: int) -> list[str]:
    """Give the text alone of the masks of a track, compressed.

    Args:
        masks: As for :func:`parse_masks`, like the others.
        length: Number of frames.
        height: Of the frames, in pixels.
        width: Of the frames, in pixels.

    Returns:
        list: The ``counts`` of a compressed RLE per frame, ``""`` where the object is absent.

    Raises:
        RLEError: As :func:`parse_masks`, or the text of a mask is empty.
    """
    rles = parse_masks(masks, length, height, width)
    texts = [rle["counts"] if rle else "" for rle in rles]
    if texts.count("") + len(list(filter(None, rles))) > length:
        frame = next(t for t, rle in enumerate(rles) if rle and not rle["counts"])
        raise RLEError(_NO_TEXT, frame)
    return texts


def _all_compressed(masks: list, height: int, width: int) -> bool:
    """Tell the usual case: all masks are compressed RLE of the right size."""
    try:
        kinds = set(map(type, map(itemgetter("counts"), masks)))
        sizes = list(map(itemgetter("size"), masks))
    except (TypeError, KeyError):
        return False
    return kinds <= {str} and sizes.count([height, width]) == len(masks)


def to_rle(mask: dict | list, height: int, width: int) -> dict:
    """Turn a mask in any form of the COCO format into compressed RLE.

    Args:
        mask: Compressed RLE (``counts`` a str or bytes), uncompressed RLE (``counts`` a list of
            numbers), both with ``size`` [height, width]; or a list of polygons
            ``[x1, y1, x2, y2, ...]`` in pixels.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.

    Returns:
        dict: ``size`` [height, width] and ``counts`` (str). mmdet's LoadAnnotations takes text for
        valid and bytes for broken.

    Raises:
        RLEError: It is none of these, or of another size.
    """
    if isinstance(mask, list):
        rle = mask_utils.merge(_polygon_rles(mask, height, width))
        return {"size": [height, width], "counts": rle["counts"].decode("ascii")}
    try:
        size, counts = list(mask["size"]), mask["counts"]
    except (TypeError, KeyError):
        raise RLEError(
            "a mask is null, a list of polygons, or an RLE with the keys 'size' and 'counts'"
        ) from None
    if size != [height, width]:
        raise RLEError(f"RLE of size {size} in a video of {height} x {width} (height x width)")
    if isinstance(counts, str):
        return {"size": size, "counts": counts}
    if isinstance(counts, bytes):
        return {"size": size, "counts": counts.decode("latin-1")}
    try:
        runs = np.frombuffer(array("q", counts), dtype=np.int64)
    except (TypeError, OverflowError):
        raise RLEError("RLE counts must be a string or a list of run lengths") from None
    text, least, total = _compressed(runs)
    if least < 0:
        raise RLEError("RLE counts must be a string or a list of run lengths, none negative")
    if total != height * width:
        raise RLEError(_WRONG_SIZE.format(total, height, width))
    return {"size": size, "counts": text}


def _polygon_rles(polygons: list, height: int, width: int) -> list[dict]:
    if not polygons:
        raise RLEError("a list of polygons must not be empty")
    for polygon in polygons:
        # pycocotools would take four numbers for a box.
        if not isinstance(polygon, (list, tuple)) or len(polygon) < 6 or len(polygon) % 2:
            raise RLEError("a polygon must be a flat list x1, y1, x2, y2, ... of 3 or more points")
        if not _can_be_drawn(polygon):
            raise RLEError(
                f"polygon coordinates must be finite numbers of at most {MAX_COORDINATE:.0f} pixels"
            )
    return mask_utils.frPyObjects([list(polygon) for polygon in polygons], height, width)


def _can_be_drawn(coordinates: list | tuple) -> bool:
    try:
        numbers = array("d", coordinates)
    except (TypeError, OverflowError):
        return False
    in_range = min(numbers) >= -MAX_COORDINATE and max(numbers) <= MAX_COORDINATE
    return in_range and not math.isnan(sum(numbers))


# --- files ------------------------------------------------------------------------------------

_LIST = re.compile(rb'"counts"\s*:\s*\[([0-9,\s]+)\]')


def compress_lists(text: bytes) -> bytes:
    """Compress the uncompressed RLEs in the text of a JSON, before it is parsed.

    The official training files hold masks as lists of lengths. These are nearly all of the file,
    and a parser makes an object of each number.

    Args:
        text: A JSON. What is wrong in it stays for the parser, which can say where.

    Returns:
        bytes: The same with compressed RLEs.
    """
    return _LIST.sub(_compress_list, text)


def _compress_list(match: re.Match) -> bytes:
    digits = np.frombuffer(match[1], dtype=np.uint8)
    lengths = np.empty(len(digits) // 2 + 1, dtype=np.int64)
    count = _read_lengths(digits, lengths)
    if count == 0:
        return match[0]
    escaped = _compressed(lengths[:count])[0].replace("\\", "\\\\")
    return b'"counts":"%s"' % escaped.encode("ascii")


@compiled
def _read_lengths(chars, lengths):
    """Read numbers with commas between; give how many, 0 where that is not what is written."""
    n = value = 0
    is_number = is_over = False
    for c in chars:
        if 48 <= c <= 57:
            if is_over or value > 1 << 40:
                return 0
            value = 10 * value + c - 48
            is_number = True
        elif c == 44:  # comma
            if not is_number:
                return 0
            lengths[n] = value
            n += 1
            value = 0
            is_number = is_over = False
        else:
            is_over = is_number
    if not is_number:
        return 0
    lengths[n] = value
    return n + 1


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
    if isinstance(masks, torch.Tensor) and masks.device.type == "cpu":
        masks = masks.numpy()
    if isinstance(masks, torch.Tensor):
        all_changes = _changes_on_device(masks != 0)
    else:
        all_changes = (_changes(mask) for mask in masks.astype(bool, copy=False))
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
    return _compressed(np.ascontiguousarray(runs, dtype=np.int64))[0]


def _compressed(runs: np.ndarray) -> tuple[str, int, int]:
    """Give the text, and the least and the sum of the lengths."""
    chars = np.empty(13 * len(runs), dtype=np.uint8)  # 5 bits each
    length, least, total = _compress(runs, chars)
    return chars[:length].tobytes().decode("ascii"), least, total


@compiled
def _compress(runs, chars):
    n = least = total = 0
    for i in range(len(runs)):
        value = runs[i]
        least = min(least, value)
        total += value
        if i > 2:
            value -= runs[i - 2]
        more = True
        while more:
            digit = value & 31
            value >>= 5
            more = value != (-1 if digit & 16 else 0)
            chars[n] = digit + 48 + (32 if more else 0)
            n += 1
    return n, least, total


# --- measuring --------------------------------------------------------------------------------


def mask_areas(rles: Sequence[dict | None], height: int, width: int) -> np.ndarray:
    """Check compressed RLEs and count their pixels.

    pycocotools does not check what it is given: on an RLE of more or fewer pixels than its size it
    reads out of bounds or never returns.

    Args:
        rles: n compressed RLEs or something false for an empty mask, as of :func:`parse_masks`.
        height: Of the frames, in pixels.
        width: Of the frames, in pixels.

    Returns:
        np.ndarray: (n,) int64.

    Raises:
        RLEError: One of them does not describe a mask of this size; ``index`` says which.
    """
    present = [index for index, rle in enumerate(rles) if rle]
    counts = [rles[index]["counts"] for index in present]
    runs = decode_runs(counts)
    right = runs.pixels == height * width
    if not right.all():
        index = int(right.argmin())
        reason = what_is_wrong(counts[index], runs.pixels[index], height, width)
        raise RLEError(reason, present[index])
    areas = np.zeros(len(rles), dtype=np.int64)
    areas[present] = runs.areas
    return areas


def what_is_wrong(counts: str | bytes, pixels: int, height: int, width: int) -> str:
    """Say why a mask is not one of the given size.

    Args:
        counts: Text of the mask.
        pixels: It describes, as in :class:`Runs`.
        height: It should have, in pixels.
        width: It should have, in pixels.
    """
    if not len(counts):
        return _NO_TEXT
    if pixels < 0:
        return "the counts of the RLE are cut off or hold what is not RLE"
    return _WRONG_SIZE.format(pixels, height, width)


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
        _decode(chars, stops, offsets, bounds, run_stops, areas, pixels)
        if (offsets + pixels).max(initial=0) <= _LARGEST[dtype]:
            break
    return Runs(bounds[: run_stops[-1] if len(counts) else 0], run_stops, areas, pixels)


_LARGEST = {dtype: np.iinfo(dtype).max for dtype in (np.uint32, np.int64)}


def _ascii_text(counts: str | bytes) -> str:
    text = counts if isinstance(counts, str) else counts.decode("latin-1")
    return text if text.isascii() else " "  # no character of an RLE


# Indices that cannot be negative spare a test at each access, a third of the time. Numba makes a
# float of the sum of one of them and any other number.
_ONE, _TWO = np.uint64(1), np.uint64(2)


@compiled
def _number(chars, p, stop):
    """Read the number at ``p``; give it, where it ends, and all bits of its characters."""
    digit = chars[p] - 48
    p += _ONE
    strange, value, sign = digit, digit & 31, 16
    while digit & 32 and p < stop and sign < 1 << 40:
        digit = chars[p] - 48
        p += _ONE
        strange |= digit
        sign <<= 5
        value |= (digit & 31) * (sign >> 4)
    strange |= (digit & 32) << 1  # cut off, or longer than any
    return (value ^ sign) - sign, p, strange


@compiled
def _decode(chars, char_stops, offsets, bounds, run_stops, areas, pixels):
    p = n = np.uint64(0)  # in chars, in bounds
    for i in range(len(char_stops)):
        stop, first = np.uint64(char_stops[i]), n
        end = offsets[i]
        gap = run = area = lengths = 0  # the last has the bits of all lengths
        strange = -1  # until there is a number; then the bits of all characters
        if p < stop:
            lengths, p, strange = _number(chars, p, stop)
            end += lengths  # the first gap, to which no other refers
        while p < stop and not (strange & ~63 or lengths >> 34):
            # Nearly all numbers have one character: as long as that is so, two at a time.
            while p + _ONE < stop:
                digit, other = chars[p] - 48, chars[p + _ONE] - 48
                if (digit | other) & ~31:
                    break
                run += (digit ^ 16) - 16
                gap += (other ^ 16) - 16
                lengths |= run | gap
                bounds[n] = end
                end += run
                bounds[n + _ONE] = end
                end += gap
                area += run
                n += _TWO
                p += _TWO
            if p < stop:
                value, p, odd = _number(chars, p, stop)
                run += value
                strange |= odd
                lengths |= run
                bounds[n] = end
                end += run
                bounds[n + _ONE] = end
                n += _TWO
                area += run
            if p < stop:
                value, p, odd = _number(chars, p, stop)
                gap += value
                strange |= odd
                lengths |= gap
                end += gap
        # Characters of more than 6 bits, and lengths that are negative (-1) or larger than any.
        if strange & ~63 or lengths >> 34:
            n, area, end = first, 0, offsets[i] - 1
            p = stop
        run_stops[i], areas[i], pixels[i] = n, area, end - offsets[i]


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
    _intersect(bounds, spans, first, second, shared)
    return shared


@compiled
def _intersect(bounds, spans, first, second, shared):
    for k in range(len(first)):
        i, i_stop = np.uint64(spans[first[k], 0]), np.uint64(spans[first[k], 1])
        j, j_stop = np.uint64(spans[second[k], 0]), np.uint64(spans[second[k], 1])
        total = 0
        # A run is done with when it ends before the next one of the other mask: mostly both are,
        # as the masks of one object have a run each in a column.
        while i + _TWO < i_stop and j + _TWO < j_stop:
            end, other_end = np.int64(bounds[i + _ONE]), np.int64(bounds[j + _ONE])
            begin = max(np.int64(bounds[i]), np.int64(bounds[j]))
            total += max(min(end, other_end) - begin, 0)
            following, other_following = np.int64(bounds[i + _TWO]), np.int64(bounds[j + _TWO])
            if end <= other_following:
                i += _TWO
            if other_end <= following:
                j += _TWO
        # One of the masks is at its last run.
        while i < i_stop and j < j_stop:
            end, other_end = np.int64(bounds[i + _ONE]), np.int64(bounds[j + _ONE])
            begin = max(np.int64(bounds[i]), np.int64(bounds[j]))
            total += max(min(end, other_end) - begin, 0)
            if end <= other_end:
                i += _TWO
            else:
                j += _TWO
        shared[k] = total
