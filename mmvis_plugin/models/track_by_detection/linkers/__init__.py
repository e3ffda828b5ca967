"""Linkers: from detections in single frames to tracks."""

from .assignment import assign
from .base import Detections, Linker, LinkState, OnlineLinker
from .iou_plus import IoUPlusLinker
from .seq import SeqLinker
from .similarity import box_iou, mask_iou, pairwise_overlap

__all__ = [
    "Detections",
    "IoUPlusLinker",
    "LinkState",
    "Linker",
    "OnlineLinker",
    "SeqLinker",
    "assign",
    "box_iou",
    "mask_iou",
    "pairwise_overlap",
]
