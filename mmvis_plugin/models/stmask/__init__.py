"""STMask (Li et al., CVPR 2021)."""

from .backbone import Float32ModulatedDeformConv2dPack, IntervalDCNResNet
from .calibration import CalibratedPrediction, aligned_offsets
from .detector import STMaskDetector
from .head import HeadOutputs, STMaskHead
from .losses import STMaskLoss
from .neck import STMaskFPN
from .prototypes import MaskPrototypes
from .stmask import STMask, STMaskState
from .temporal_fusion import TemporalFusion
from .tracker import STMaskTracker

__all__ = [
    "CalibratedPrediction",
    "Float32ModulatedDeformConv2dPack",
    "HeadOutputs",
    "IntervalDCNResNet",
    "MaskPrototypes",
    "STMask",
    "STMaskDetector",
    "STMaskFPN",
    "STMaskHead",
    "STMaskLoss",
    "STMaskState",
    "STMaskTracker",
    "TemporalFusion",
    "aligned_offsets",
]
