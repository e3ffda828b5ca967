"""EfficientVIS (Wu et al., CVPR 2022)."""

from .criterion import TrackletCriterion
from .efficientvis import EfficientVIS
from .linking import HandCraftLinking, QueryLinking
from .match_costs import TrackletClassCost, TrackletGIoUCost, TrackletL1Cost, TrackletMaskIoUCost
from .temporal_dynamic_conv import TemporalDynamicConv
from .tracklet_head import TrackletHead, TrackletStage

__all__ = [
    "EfficientVIS",
    "HandCraftLinking",
    "QueryLinking",
    "TemporalDynamicConv",
    "TrackletClassCost",
    "TrackletCriterion",
    "TrackletGIoUCost",
    "TrackletHead",
    "TrackletL1Cost",
    "TrackletMaskIoUCost",
    "TrackletStage",
]
