"""Linkers: from detections in single frames to tracks."""

from .assignment import assign
from .base import Detections, Linker, LinkState, OnlineLinker
from .bytetrack import ByteTrackLinker
from .deepsort import DeepSORTLinker
from .iou_plus import IoUPlusLinker
from .ocsort import OCSORTLinker
from .seq import SeqLinker
from .similarity import box_iou, pairwise_overlap
from .sort import SORTLinker

__all__ = [
    "ByteTrackLinker",
    "DeepSORTLinker",
    "Detections",
    "IoUPlusLinker",
    "LinkState",
    "Linker",
    "OCSORTLinker",
    "OnlineLinker",
    "SORTLinker",
    "SeqLinker",
    "assign",
    "box_iou",
    "pairwise_overlap",
]
