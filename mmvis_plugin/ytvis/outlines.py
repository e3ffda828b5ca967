"""Outlines of masks: polygons for annotation tools."""

from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as mask_utils

# In pixels. The coarsest that stays close enough to the mask is taken: a person moves its corners.
TOLERANCES = (2.0, 1.0, 0.5)
LEAST_IOU = 0.985  # of a simplified outline and its part, COCO's way of drawing


class Outlines(NamedTuple):
    """Attributes:
    polygons: (n, 2) corners of each part in pixels, x and y, largest part first; the corner of
        the frame is (0, 0).
    num_holes: Holes, which polygons cannot have: they are filled.
    """

    polygons: list[np.ndarray]
    num_holes: int


def outlines(mask: np.ndarray, simplified: bool = True) -> Outlines:
    """The parts of a mask as polygons.

    Parts that touch at a corner are one. An outline runs a quarter of a pixel inside of the edge of
    its outer pixels; drawn again, it covers their centres and no others.

    Args:
        mask: (H, W) bool.
        simplified: Leave out corners as long as the outline stays close to the part.
    """
    # Each pixel is four, so that outlines lie between the centres of pixels, not on them.
    fine = np.kron(mask.astype(np.uint8), np.ones((2, 2), np.uint8))
    found, tree = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not found:  # nor is there a tree
        return Outlines([], 0)
    outer = [part for part, (*_, parent) in zip(found, tree[0], strict=True) if parent < 0]
    outer.sort(key=cv2.contourArea, reverse=True)
    corners = [(part[:, 0] + 0.5).astype(np.float32) / 2 for part in outer]
    fewer = _simplified if simplified else _without_straight_corners
    return Outlines([fewer(part) for part in corners], len(found) - len(outer))


def _simplified(outline: np.ndarray) -> np.ndarray:
    """The outline with as few corners as :data:`LEAST_IOU` allows."""
    start = np.floor(outline.min(axis=0)) - 1
    width, height = (np.ceil(outline.max(axis=0)) - start + 1).astype(int).tolist()
    exact = _draw(outline - start, height, width)
    for tolerance in TOLERANCES:
        simple = cv2.approxPolyDP(outline[:, None], tolerance, closed=True)[:, 0]
        if len(simple) < 3:
            continue
        drawn = _draw(simple - start, height, width)
        if mask_utils.iou([drawn], [exact], [False])[0, 0] >= LEAST_IOU:
            return simple
    return _without_straight_corners(outline)


def _without_straight_corners(outline: np.ndarray) -> np.ndarray:
    return cv2.approxPolyDP(outline[:, None], 0, closed=True)[:, 0]


def _draw(polygon: np.ndarray, height: int, width: int) -> dict:
    return mask_utils.frPyObjects([polygon.ravel().tolist()], height, width)[0]
