"""Python entry points: read a video, segment it, write the result."""

from mmvis_plugin.apis.inferencer import VISInferencer
from mmvis_plugin.apis.models import build_video_segmentor, list_configs
from mmvis_plugin.apis.releases import Release, list_models
from mmvis_plugin.apis.results import FrameResult, TrackedObject
from mmvis_plugin.apis.sinks import (
    COCOVideoSink,
    CSVSink,
    CVATSink,
    IdMapSink,
    JSONSink,
    LabelMeSink,
    MOTSSink,
    Sink,
    VideoSink,
    VOSSink,
)
from mmvis_plugin.apis.stream import VideoStream
from mmvis_plugin.video import FrameTiming, VideoError, VideoReader, VideoWriter

__all__ = [
    "COCOVideoSink",
    "CSVSink",
    "CVATSink",
    "FrameResult",
    "FrameTiming",
    "IdMapSink",
    "JSONSink",
    "LabelMeSink",
    "MOTSSink",
    "Release",
    "Sink",
    "TrackedObject",
    "VISInferencer",
    "VOSSink",
    "VideoError",
    "VideoReader",
    "VideoSink",
    "VideoStream",
    "VideoWriter",
    "build_video_segmentor",
    "list_configs",
    "list_models",
]
