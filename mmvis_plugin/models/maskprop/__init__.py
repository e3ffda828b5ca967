"""MaskProp (Bertasius & Torresani, CVPR 2020)."""

from .maskprop import MaskProp
from .propagation import FlowPropagation, PropagationHead
from .tracker import ClipTracker

__all__ = ["ClipTracker", "FlowPropagation", "MaskProp", "PropagationHead"]
