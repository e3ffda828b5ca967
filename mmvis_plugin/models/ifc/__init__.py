"""IFC (Hwang et al., NeurIPS 2021)."""

from .criterion import IFCCriterion
from .detector import IFCDetector
from .encoder import IFCEncoder
from .ifc import IFC
from .mask_head import IFCMaskHead
from .network import IFCNetwork

__all__ = ["IFC", "IFCCriterion", "IFCDetector", "IFCEncoder", "IFCMaskHead", "IFCNetwork"]
