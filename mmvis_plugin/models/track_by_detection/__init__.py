"""Tracking by detection: any image instance segmenter, and a linker."""

from .linkers import IoUPlusLinker, SeqLinker
from .track_by_detection import TrackByDetection

__all__ = ["IoUPlusLinker", "SeqLinker", "TrackByDetection"]
