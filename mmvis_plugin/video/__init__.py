"""Reading and writing videos, folders of images, cameras and arrays, frame by frame."""

from .background import Prefetcher, Worker
from .video_io import FrameTiming, VideoError, VideoReader, VideoWriter

__all__ = ["FrameTiming", "Prefetcher", "VideoError", "VideoReader", "VideoWriter", "Worker"]
