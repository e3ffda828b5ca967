"""Overlaps of boxes whose sides are at most 1.

A constant in numerator and denominator gives two boxes of no size an IoU of 1. In these units it
also shows where boxes are small, so that MMDetection's ``bbox_overlaps`` gives other losses.
"""

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

EPS = 1e-6  # of VisTR's repository


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """IoU, and the areas of unions and of the smallest boxes around both.

    Args:
        a: (..., 4) cx, cy, w, h in widths and heights of the frame.
        b: Likewise, of a shape that fits.

    Returns:
        Three (...).
    """
    a, b = bbox_cxcywh_to_xyxy(a), bbox_cxcywh_to_xyxy(b)
    intersection = _area(
        torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    )
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - intersection
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    return (intersection + EPS) / (union + EPS), union, hull


def giou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - generalised IoU, (...) in [0, 2]; arguments as in :func:`overlaps`."""
    iou, union, hull = overlaps(a, b)
    return 1 - iou + (hull - union + EPS) / (hull + EPS)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(-1)
