"""Python entry points: read a video, segment it, write the result."""

from .inference import SegmentedVideo, build_video_segmentor, segment_video
from .video_io import FrameTiming, VideoError, VideoReader, VideoWriter

__all__ = [
    "FrameTiming",
    "SegmentedVideo",
    "VideoError",
    "VideoReader",
    "VideoWriter",
    "build_video_segmentor",
    "segment_video",
]
