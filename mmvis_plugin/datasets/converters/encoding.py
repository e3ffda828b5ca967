"""Masks of other formats as compressed RLE."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmvis_plugin.ytvis.masks import MAX_COORDINATE, to_rle
from mmvis_plugin.ytvis.rle import compress_runs, encode_masks

OUTLINE_PER_SIDE = 50  # of the frame: a box has 2


def encode_ids(id_map: np.ndarray) -> dict[int, dict]:
    """Encode all regions of an index image, in time and memory that do not depend on their number.

    Args:
        id_map: Object id of every pixel, shape (H, W), integers; 0 is background.

    Returns:
        dict[int, dict]: Compressed RLE by id, in order of the ids.
    """
    pixels = id_map.ravel(order="F")  # RLE runs down the columns
    starts = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1])
    stops = np.append(starts[1:], pixels.size)
    order = np.argsort(pixels[starts], kind="stable")
    ids, firsts = np.unique(pixels[starts][order], return_index=True)
    rles = {}
    for id_, runs in zip(ids.tolist(), np.split(order, firsts[1:]), strict=True):
        if id_:
            bounds = np.stack([starts[runs], stops[runs]], axis=1).ravel()
            lengths = np.diff(bounds, prepend=0, append=pixels.size)
            lengths = lengths if lengths[-1] else lengths[:-1]
            rles[id_] = dict(size=list(id_map.shape), counts=compress_runs(lengths))
    return rles


def encode_mask(mask: np.ndarray) -> dict:
    """Encode a mask of shape (H, W), bool, as compressed RLE."""
    return encode_masks(mask[None])[0]


def encode_polygon(points: np.ndarray, height: int, width: int) -> dict:
    """Encode a polygon as compressed RLE, the way COCO draws polygons.

    Args:
        points: Corners (n, 2), x and y in pixels; parts outside the frame are cut off.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.

    Raises:
        ValueError: If there are fewer than three points, or they cannot be drawn.
    """
    if len(points) < 3:
        raise ValueError(f"a polygon needs three points, got {len(points)}")
    check_outline(points, height, width)
    return to_rle([np.asarray(points, float).ravel().tolist()], height, width)


def check_coordinates(points: np.ndarray) -> None:
    """Raise a ValueError unless all coordinates are finite and of a size that can be drawn."""
    if not (np.abs(points) <= MAX_COORDINATE).all():  # NaN is not
        raise ValueError(f"coordinates must be numbers of at most {MAX_COORDINATE:.0f} pixels")


def check_outline(points: np.ndarray, height: int, width: int) -> None:
    """Make sure that drawing an outline takes a bounded time, also where most of it is outside.

    Args:
        points: Corners (n, 2), x and y in pixels.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.

    Raises:
        ValueError: If a coordinate cannot be used, or the outline is far longer than the frame.
    """
    check_coordinates(points)
    limit = OUTLINE_PER_SIDE * (height + width)
    steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1)
    if steps.sum() + len(points) > limit:
        raise ValueError(
            f"the outline is longer than {limit} pixels, too long for a frame of {width} x {height}"
        )


def plain_counts(counts: Any) -> Any:
    """The counts of an RLE, also where Python's text of bytes ("b'...'") was written for them."""
    if isinstance(counts, str) and re.fullmatch("b'[^']*'", counts):
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval(counts).decode("latin-1")
    return counts


def add_mask(masks: dict[int, dict], frame: int, rle: dict) -> None:
    """Add a part of an object to its masks by frame; parts in one frame are united."""
    if frame in masks:
        rle = mask_utils.merge([masks[frame], rle])
        rle["counts"] = rle["counts"].decode("ascii")
    masks[frame] = rle
