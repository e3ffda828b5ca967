"""Blocks that several methods share."""

from .deform_conv import Float32DeformConv2dPack
from .roi_extractor import Float32RoIExtractor
from .rpn_head import AgnosticRPNHead, class_agnostic, predict_proposals
from .soft_iou import pairwise_soft_iou, soft_iou

__all__ = [
    "AgnosticRPNHead",
    "Float32DeformConv2dPack",
    "Float32RoIExtractor",
    "class_agnostic",
    "pairwise_soft_iou",
    "predict_proposals",
    "soft_iou",
]
