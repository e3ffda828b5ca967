"""Blocks that several methods share."""

from .deform_conv import Float32DeformConv2dPack
from .detr_layers import PostNormDecoder, PostNormDecoderLayer, PostNormEncoderLayer
from .precision import at_least_float32
from .roi_extractor import Float32RoIExtractor
from .rpn_head import AgnosticRPNHead, predict_proposals, rpn_loss_and_proposals
from .soft_iou import pairwise_soft_iou, soft_iou
from .window_correlation import window_correlation

__all__ = [
    "AgnosticRPNHead",
    "Float32DeformConv2dPack",
    "Float32RoIExtractor",
    "PostNormDecoder",
    "PostNormDecoderLayer",
    "PostNormEncoderLayer",
    "at_least_float32",
    "pairwise_soft_iou",
    "predict_proposals",
    "rpn_loss_and_proposals",
    "soft_iou",
    "window_correlation",
]
