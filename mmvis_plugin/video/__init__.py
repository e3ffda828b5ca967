"""Reading and writing videos, folders of images, cameras, addresses and arrays, frame by frame."""

from .background import Prefetcher, Worker
from .frames import FrameTiming, VideoError, check_frame
from .reader import VideoReader
from .writer import VideoWriter

__all__ = [
    "FrameTiming",
    "Prefetcher",
    "VideoError",
    "VideoReader",
    "VideoWriter",
    "Worker",
    "check_frame",
]
