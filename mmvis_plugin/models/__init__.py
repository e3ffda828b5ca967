"""Models: the streaming base class and one folder a method."""

from .efficientvis import (
    EfficientVIS,
    HandCraftLinking,
    QueryLinking,
    TemporalDynamicConv,
    TrackletClassCost,
    TrackletCriterion,
    TrackletGIoUCost,
    TrackletHead,
    TrackletL1Cost,
    TrackletMaskIoUCost,
    TrackletStage,
)
from .layers import AgnosticRPNHead, Float32DeformConv2dPack, Float32RoIExtractor
from .layers.window_linking import WindowedSegmentor
from .maskprop import ClipTracker, FlowPropagation, MaskProp, PropagationHead
from .mmdet_vis import StreamingMask2FormerVideo, StreamingMaskTrackRCNN
from .stmask import (
    Float32ModulatedDeformConv2dPack,
    IntervalDCNResNet,
    MaskPrototypes,
    STMask,
    STMaskDetector,
    STMaskFPN,
    STMaskHead,
    STMaskLoss,
    STMaskTracker,
    TemporalFusion,
)
from .video_segmentor import VideoSegmentor

__all__ = [
    "AgnosticRPNHead",
    "ClipTracker",
    "EfficientVIS",
    "Float32DeformConv2dPack",
    "Float32ModulatedDeformConv2dPack",
    "Float32RoIExtractor",
    "FlowPropagation",
    "HandCraftLinking",
    "IntervalDCNResNet",
    "MaskProp",
    "MaskPrototypes",
    "PropagationHead",
    "QueryLinking",
    "STMask",
    "STMaskDetector",
    "STMaskFPN",
    "STMaskHead",
    "STMaskLoss",
    "STMaskTracker",
    "StreamingMask2FormerVideo",
    "StreamingMaskTrackRCNN",
    "TemporalDynamicConv",
    "TemporalFusion",
    "TrackletClassCost",
    "TrackletCriterion",
    "TrackletGIoUCost",
    "TrackletHead",
    "TrackletL1Cost",
    "TrackletMaskIoUCost",
    "TrackletStage",
    "VideoSegmentor",
    "WindowedSegmentor",
]
