"""Masks of other formats as compressed RLE."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmvis_plugin.ytvis.masks import draw_polygons
from mmvis_plugin.ytvis.rle import compress_runs, encode_masks


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
    return draw_polygons([points.ravel().tolist()], height, width)


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
