"""Blocks that several methods share."""

from .roi_extractor import Float32RoIExtractor
from .rpn_head import AgnosticRPNHead
from .soft_iou import pairwise_soft_iou, soft_iou

__all__ = ["AgnosticRPNHead", "Float32RoIExtractor", "pairwise_soft_iou", "soft_iou"]
