"""Writers of tracks, one module a format."""

from .sinks import CSVSink, IdMapSink, JSONSink, MOTSSink, Sink, VideoSink

__all__ = ["CSVSink", "IdMapSink", "JSONSink", "MOTSSink", "Sink", "VideoSink"]
