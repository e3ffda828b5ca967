"""Masks as annotation files hold them, made into compressed RLE.

A file may hold a mask as polygons, as an RLE whose ``counts`` is a list of lengths, or as an RLE
whose ``counts`` is compressed text; null or an empty list says that the object is absent.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from .problems import show
from .rle import NO_TEXT, RLEError, compress_runs, loops, rle_pixels, what_is_wrong

# pycocotools walks along the edges of a polygon pixel by pixel, however long they are, and keeps
# every step: an outline of 1 KB in a file can ask for gigabytes. Its integers overflow beyond that.
MAX_COORDINATE = 1e6  # pixels
MAX_OUTLINE = 1_000_000  # pixels, of all polygons of a mask together
OUTLINE_PER_SIDE = 50  # likewise, times height + width of the frame; a box has at most 2
MAX_POLYGONS = 10_000  # of a mask; pycocotools joins them one by one


# --- the masks of a track ---------------------------------------------------------------------


def parse_counts(masks: Any, length: int, height: int, width: int) -> list[str]:
    """Give the masks of a track as the text of compressed RLE.

    What the text of a compressed RLE says is not looked at;
    :func:`~mmvis_plugin.ytvis.rle.mask_areas` does that.

    Args:
        masks: A list with an entry per frame: a mask in any form that :func:`to_rle` knows, or
            null or an empty list where the object is absent.
        length: Number of frames.
        height: Height of the frames in pixels.
        width: Width of the frames in pixels.

    Returns:
        list: The ``counts`` of a compressed RLE per frame, ``""`` where the object is absent.

    Raises:
        RLEError: It is no such list (``index`` is None), or a mask cannot be used (``index`` is
            its frame).
    """
    if not isinstance(masks, (list, tuple)) or len(masks) != length:
        got = len(masks) if isinstance(masks, (list, tuple)) else type(masks).__name__
        raise RLEError(f"must be a list with an entry for each of {length} frames, got {got}")
    texts = _compressed_texts(masks, height, width)
    if texts is None:
        return [_text_of(mask, frame, height, width) for frame, mask in enumerate(masks)]
    if len(texts) == length:
        return texts
    following = iter(texts)
    return [next(following) if mask else "" for mask in masks]


def _compressed_texts(masks: Sequence, height: int, width: int) -> list[str] | None:
    """The texts of all masks that are there, if all are compressed RLE, the usual case."""
    present = list(filter(None, masks))
    if len(present) + masks.count(None) + masks.count([]) < len(masks):
        return None
    try:
        texts = list(map(itemgetter("counts"), present))
        sizes = list(map(itemgetter("size"), present))
    except (TypeError, KeyError):
        return None
    usual = set(map(type, texts)) <= {str} and sizes.count([height, width]) == len(present)
    return texts if usual and "" not in texts else None


def _text_of(mask: Any, frame: int, height: int, width: int) -> str:
    """Text of one mask in any form, "" for an absent object."""
    if mask is None or (isinstance(mask, (list, tuple)) and not mask):
        return ""
    try:
        return to_rle(mask, height, width)["counts"]
    except ValueError as error:
        raise RLEError(str(error), frame) from None


# --- one mask ---------------------------------------------------------------------------------


def to_rle(mask: dict | list, height: int, width: int) -> dict:
    """Turn a mask in any form of the COCO format into compressed RLE.

    Args:
        mask: Compressed RLE (``counts`` a str or bytes), uncompressed RLE (``counts`` a list of
            numbers), both with ``size`` [height, width]; or a list of polygons
            ``[x1, y1, x2, y2, ...]`` in pixels.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.

    Returns:
        dict: ``size`` [height, width] and ``counts`` (str). mmdet's LoadAnnotations takes text for
        valid and bytes for broken.

    Raises:
        RLEError: It is none of these, or of another size.
    """
    if isinstance(mask, list):
        return draw_polygons(mask, height, width)
    try:
        size, counts = list(mask["size"]), mask["counts"]
    except (TypeError, KeyError):
        raise RLEError(
            "a mask is null, a list of polygons, or an RLE with the keys 'size' and 'counts'"
        ) from None
    if size != [height, width]:
        raise RLEError(
            f"RLE of size {show(size)} in a video of {height} x {width} (height x width)"
        )
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    elif not isinstance(counts, str):
        counts = _compressed_list(counts, height, width)
    if not counts:
        raise RLEError(NO_TEXT)
    return {"size": size, "counts": counts}


def _compressed_list(counts: Any, height: int, width: int) -> str:
    try:
        runs = np.frombuffer(array("q", counts), dtype=np.int64)
    except (TypeError, OverflowError):
        raise RLEError("RLE counts must be a string or a list of run lengths") from None
    if runs.min(initial=0) < 0:
        raise RLEError("RLE counts must be a string or a list of run lengths, none negative")
    text = compress_runs(runs)
    pixels = int(rle_pixels([text])[0])  # no sum of the lengths, which may leave their range
    if pixels != height * width:
        raise RLEError(what_is_wrong(text, pixels, height, width))
    return text


def draw_polygons(polygons: Sequence, height: int, width: int) -> dict:
    """Draw polygons as COCO does, as one mask.

    Args:
        polygons: As for :func:`check_outlines`. What lies outside the frame is cut off.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.

    Returns:
        dict: Compressed RLE, ``counts`` a str.

    Raises:
        RLEError: A polygon cannot be drawn.
    """
    check_outlines(polygons, height, width)
    rles = mask_utils.frPyObjects([list(polygon) for polygon in polygons], height, width)
    counts = mask_utils.merge(rles)["counts"].decode("ascii")
    return {"size": [height, width], "counts": counts}


def check_outlines(polygons: Sequence, height: int, width: int) -> None:
    """Make sure that drawing polygons takes a bounded time and memory.

    Args:
        polygons: One or more lists ``[x1, y1, x2, y2, ...]`` of three or more points, in pixels of
            at most :data:`MAX_COORDINATE`. Their outlines together may be no longer than
            ``OUTLINE_PER_SIDE * (height + width)`` and :data:`MAX_OUTLINE`.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.

    Raises:
        RLEError: A polygon cannot be drawn.
    """
    if not 0 < len(polygons) <= MAX_POLYGONS:
        raise RLEError(f"a mask has 1 to {MAX_POLYGONS} polygons, got {len(polygons)}")
    limit = min(OUTLINE_PER_SIDE * (height + width), MAX_OUTLINE)
    outline = 0.0
    for polygon in polygons:
        # pycocotools would take four numbers for a box.
        if not isinstance(polygon, (list, tuple)) or len(polygon) < 6 or len(polygon) % 2:
            raise RLEError("a polygon must be a flat list x1, y1, x2, y2, ... of 3 or more points")
        outline += _outline(polygon)
        if outline > limit:
            raise RLEError(
                f"the polygons' outline is longer than {limit} pixels, too long for a frame of "
                f"{height} x {width} (height x width)"
            )


def _outline(polygon: list | tuple) -> float:
    """Steps of one pixel along a polygon's edges."""
    try:
        numbers = np.frombuffer(array("d", polygon))
    except (TypeError, OverflowError):
        numbers = None
    # A bool is a number for Python; NaN compares with nothing.
    if numbers is None or bool in map(type, polygon) or not _in_range(numbers):
        raise RLEError(
            f"polygon coordinates must be finite numbers of at most {MAX_COORDINATE:.0f} pixels"
        )
    points = numbers.reshape(-1, 2)
    steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1)
    return float(steps.sum()) + len(points)


def _in_range(numbers: np.ndarray) -> bool:
    return bool((np.abs(numbers) <= MAX_COORDINATE).all())


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
    return _LIST.sub(_compress_match, text)


def _compress_match(match: re.Match) -> bytes:
    digits = np.frombuffer(match[1], dtype=np.uint8)
    lengths = np.empty(len(digits) // 2 + 1, dtype=np.int64)
    count = loops().read_lengths(digits, lengths)
    if count == 0:
        return match[0]
    escaped = compress_runs(lengths[:count]).replace("\\", "\\\\")
    return b'"counts":"%s"' % escaped.encode("ascii")
