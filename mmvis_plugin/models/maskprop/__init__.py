"""MaskProp (Bertasius & Torresani, CVPR 2020)."""

from .maskprop import MaskProp
from .propagation import FlowPropagation, PropagationHead
from .refinement import MaskRefiner
from .tracker import ClipTracker

__all__ = ["ClipTracker", "FlowPropagation", "MaskProp", "MaskRefiner", "PropagationHead"]
