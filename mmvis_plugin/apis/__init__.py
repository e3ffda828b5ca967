"""Python entry points: read a video, segment it, write the result."""

from .build import build_video_segmentor, list_configs
from .inference import (
    FrameResult,
    SegmentedVideo,
    TrackedObject,
    VideoStream,
    VISInferencer,
    segment_video,
)
from .sinks import CSVSink, IdMapSink, JSONSink, MOTSSink, Sink, VideoSink
from .video_io import FrameTiming, VideoError, VideoReader, VideoWriter

__all__ = [
    "CSVSink",
    "FrameResult",
    "FrameTiming",
    "IdMapSink",
    "JSONSink",
    "MOTSSink",
    "SegmentedVideo",
    "Sink",
    "TrackedObject",
    "VISInferencer",
    "VideoError",
    "VideoReader",
    "VideoSink",
    "VideoStream",
    "VideoWriter",
    "build_video_segmentor",
    "list_configs",
    "segment_video",
]
