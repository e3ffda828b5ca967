"""Tracking by detection: any image instance segmenter, and a linker."""

from .appearance import DetectorAppearance, MobileNetAppearance
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
    "DetectorAppearance",
    "IoUPlusLinker",
    "MobileNetAppearance",
    "OCSORTLinker",
    "SORTLinker",
    "SeqLinker",
    "TrackByDetection",
]
