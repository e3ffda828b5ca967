"""SipMask-VIS (Cao et al., ECCV 2020)."""

from .detector import SipMaskDetector
from .head import HeadOutputs, SipMaskHead
from .losses import SipMaskLoss
from .sipmask import SipMask, SipMaskState
from .tracker import SipMaskTracker

__all__ = [
    "HeadOutputs",
    "SipMask",
    "SipMaskDetector",
    "SipMaskHead",
    "SipMaskLoss",
    "SipMaskState",
    "SipMaskTracker",
]
