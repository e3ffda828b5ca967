"""Models: the streaming base class and one folder a method."""

from mmvis_plugin.models.windowed import WindowedSegmentor

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
from .maskprop import ClipTracker, FlowPropagation, MaskProp, MaskRefiner, PropagationHead
from .mmdet_vis import StreamingMask2FormerVideo, StreamingMaskTrackRCNN
from .mssts import (
    MSSTSVIS,
    ClipBoxL2Cost,
    ClipGIoUCost,
    MSSTSAttention,
    SeparabilityDiscriminator,
    SeqFormerCriterion,
    SeqFormerDecoder,
    SeqFormerEncoder,
    SeqFormerMaskHead,
)
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
from .track_by_detection import IoUPlusLinker, SeqLinker, TrackByDetection
from .video_segmentor import VideoSegmentor

__all__ = [
    "MSSTSVIS",
    "AgnosticRPNHead",
    "ClipBoxL2Cost",
    "ClipGIoUCost",
    "ClipTracker",
    "EfficientVIS",
    "Float32DeformConv2dPack",
    "Float32ModulatedDeformConv2dPack",
    "Float32RoIExtractor",
    "FlowPropagation",
    "HandCraftLinking",
    "IoUPlusLinker",
    "IntervalDCNResNet",
    "MSSTSAttention",
    "MaskProp",
    "MaskPrototypes",
    "MaskRefiner",
    "PropagationHead",
    "QueryLinking",
    "STMask",
    "STMaskDetector",
    "STMaskFPN",
    "STMaskHead",
    "STMaskLoss",
    "STMaskTracker",
    "SeparabilityDiscriminator",
    "SeqFormerCriterion",
    "SeqFormerDecoder",
    "SeqFormerEncoder",
    "SeqFormerMaskHead",
    "SeqLinker",
    "StreamingMask2FormerVideo",
    "StreamingMaskTrackRCNN",
    "TemporalDynamicConv",
    "TemporalFusion",
    "TrackByDetection",
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
