"""Tracking by detection: any image instance segmenter, and a linker."""

from .linkers import (
    ByteTrackLinker,
    DeepSORTLinker,
    IoUPlusLinker,
    OCSORTLinker,
    SeqLinker,
    SORTLinker,
)
from .track_by_detection import TrackByDetection

__all__ = [
    "ByteTrackLinker",
    "DeepSORTLinker",
    "IoUPlusLinker",
    "OCSORTLinker",
    "SORTLinker",
    "SeqLinker",
    "TrackByDetection",
]
