"""From mask logits on a method's grid to masks of the original frame."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def masks_at_original_size(logits: Tensor, padded_size: Sequence[int], meta: dict) -> Tensor:
    """Interpolate to the padded frame, cut the padding off, interpolate to the original frame.

    Args:
        logits: (N, h, w) mask logits on a grid that covers the padded frame.
        padded_size: Height and width of the padded frame.
        meta: ``img_shape`` and ``ori_shape`` (height, width) of the frame.

    Returns:
        (N, H, W) bool, true where the logit is positive.
    """
    original_size = tuple(meta["ori_shape"][:2])
    if len(logits) == 0:
        return logits.new_zeros((0, *original_size), dtype=torch.bool)
    height, width = meta["img_shape"][:2]
    logits = _interpolate(logits, padded_size)[:, :height, :width]
    if original_size != (height, width):
        logits = _interpolate(logits, original_size)
    return logits > 0


def _interpolate(masks: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(masks[None], tuple(size), mode="bilinear", align_corners=False)[0]
