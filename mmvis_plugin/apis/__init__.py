"""Python entry points: read a video, segment it, write the result."""

from mmvis_plugin.apis.inferencer import (
    FrameResult,
    SegmentedVideo,
    TrackedObject,
    VideoStream,
    VISInferencer,
    segment_video,
)
from mmvis_plugin.apis.models import build_video_segmentor, list_configs
from mmvis_plugin.apis.sinks import CSVSink, IdMapSink, JSONSink, MOTSSink, Sink, VideoSink
from mmvis_plugin.video.video_io import FrameTiming, VideoError, VideoReader, VideoWriter

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
