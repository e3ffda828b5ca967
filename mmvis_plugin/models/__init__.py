"""Models: the streaming base class and one folder a method."""

from .layers import AgnosticRPNHead, Float32RoIExtractor
from .maskprop import ClipTracker, FlowPropagation, MaskProp, PropagationHead
from .video_segmentor import VideoSegmentor

__all__ = [
    "AgnosticRPNHead",
    "ClipTracker",
    "FlowPropagation",
    "Float32RoIExtractor",
    "MaskProp",
    "PropagationHead",
    "VideoSegmentor",
]
