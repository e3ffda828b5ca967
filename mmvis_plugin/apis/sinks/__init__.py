"""Where results go: a video, official-format JSON, id maps, MOTS text, a table of
tracks, and annotations for CVAT, LabelMe,
MMDetection and video object segmentation.

A sink is a context manager that takes the results of one video as they come and works in a thread
of its own. What it writes has its final name only when it is whole. If the block is left by an
exception (Ctrl-C, a source that fails in the middle) or before the video's end (``stop``,
``break``), the file is closed properly all the same, holds the frames so far and says so in its
name: ``tracks.partial.mp4``::

    with VISInferencer("maskprop_r18_shapes") as inferencer, VideoSink("tracks.mp4") as sink:
        for result in inferencer("street.mp4"):
            sink.write(result)
"""

from .base import Sink
from .coco_video import COCOVideoSink
from .cvat import CVATSink
from .id_maps import IdMapSink, VOSSink
from .labelme import LabelMeSink
from .mots import MOTSSink
from .results_json import JSONSink
from .track_table import CSVSink
from .video import VideoSink

__all__ = [
    "COCOVideoSink",
    "CSVSink",
    "CVATSink",
    "IdMapSink",
    "JSONSink",
    "LabelMeSink",
    "MOTSSink",
    "Sink",
    "VOSSink",
    "VideoSink",
]
