"""Models: the streaming base class and one folder a method."""

from .layers import AgnosticRPNHead, Float32DeformConv2dPack, Float32RoIExtractor
from .layers.window_linking import WindowedSegmentor
from .maskprop import ClipTracker, FlowPropagation, MaskProp, PropagationHead
from .mmdet_vis import StreamingMask2FormerVideo, StreamingMaskTrackRCNN
from .video_segmentor import VideoSegmentor

__all__ = [
    "AgnosticRPNHead",
    "ClipTracker",
    "FlowPropagation",
    "Float32DeformConv2dPack",
    "Float32RoIExtractor",
    "MaskProp",
    "PropagationHead",
    "StreamingMask2FormerVideo",
    "StreamingMaskTrackRCNN",
    "VideoSegmentor",
    "WindowedSegmentor",
]
