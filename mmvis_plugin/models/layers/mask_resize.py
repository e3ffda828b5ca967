"""From mask logits on a method's grid to masks of the original frame."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def masks_at_original_size(logits: Tensor, padded_size: Sequence[int], meta: dict) -> Tensor:
    """(N, H, W) bool masks of the original frame, true where :func:`logits_at_original_size` > 0.

    Args are those of :func:`logits_at_original_size`.
    """
    return logits_at_original_size(logits, padded_size, meta) > 0


def logits_at_original_size(logits: Tensor, padded_size: Sequence[int], meta: dict) -> Tensor:
    """Interpolate to the padded frame, cut the padding off, interpolate to the original frame.

    Args:
        logits: (N, h, w) mask logits on a grid that covers the padded frame.
        padded_size: Height and width of the padded frame.
        meta: ``img_shape`` and ``ori_shape`` (height, width) of the frame.

    Returns:
        (N, H, W) logits.
    """
    original_size = tuple(meta["ori_shape"][:2])
    if len(logits) == 0:
        return logits.new_zeros((0, *original_size))
    height, width = meta["img_shape"][:2]
    logits = _interpolate(logits, padded_size)[:, :height, :width]
    if original_size != (height, width):
        logits = _interpolate(logits, original_size)
    return logits


def stretched_masks(logits: Tensor, meta: dict) -> Tensor:
    """Masks of one frame, interpolated straight from the method's grid to the original size.

    The grid is stretched over the frame as if it ended with it; several authors do so.

    Args:
        logits: (N, h, w) mask logits.
        meta: ``ori_shape`` of the frame.

    Returns:
        (N, H, W) bool.
    """
    size = tuple(meta["ori_shape"][:2])
    if len(logits) == 0:
        return logits.new_zeros((0, *size), dtype=torch.bool)
    return _interpolate(logits, size) > 0


def _interpolate(masks: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(masks[None], tuple(size), mode="bilinear", align_corners=False)[0]
