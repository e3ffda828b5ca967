"""VisTR (Wang et al., CVPR 2021)."""

from .criterion import VisTRCriterion
from .detector import VisTRDetector
from .mask_head import VisTRMaskHead
from .match_costs import VisTRBoxCost, VisTRClassCost, VisTRIoUCost
from .network import VisTRNetwork
from .positions import SineClipPositions
from .vistr import VisTR

__all__ = [
    "SineClipPositions",
    "VisTR",
    "VisTRBoxCost",
    "VisTRClassCost",
    "VisTRCriterion",
    "VisTRDetector",
    "VisTRIoUCost",
    "VisTRMaskHead",
    "VisTRNetwork",
]
