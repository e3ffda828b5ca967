"""Linkers: from detections in single frames to tracks."""

from .assignment import assign
from .base import Detections, Linker, LinkState, OnlineLinker
from .similarity import box_iou, mask_iou, pairwise_overlap

__all__ = [
    "Detections",
    "LinkState",
    "Linker",
    "OnlineLinker",
    "assign",
    "box_iou",
    "mask_iou",
    "pairwise_overlap",
]
