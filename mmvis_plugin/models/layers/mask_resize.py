"""From mask logits on a method's grid to masks of the original frame."""

from collections.abc import Sequence

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


def _interpolate(masks: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(masks[None], tuple(size), mode="bilinear", align_corners=False)[0]
