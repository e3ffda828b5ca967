"""How much masks overlap, on their run-length encodings."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as mask_utils


def mask_iou(masks: list[dict], others: list[dict]) -> np.ndarray:
    """(N, M) float64 IoU of N and M compressed RLEs of one size; 0 for empty masks."""
    if not masks or not others:  # of which pycocotools gives a list
        return np.zeros((len(masks), len(others)))
    return mask_utils.iou(masks, others, [0] * len(others))


def mask_nms(
    masks: list[dict], max_iou: float, labels: Sequence[int] | np.ndarray | None = None
) -> list[int]:
    """Which masks stay if each leaves out those after it that overlap it too much.

    Args:
        masks: N compressed RLEs of one size, the best first.
        max_iou: IoU up to which both stay, in [0, 1].
        labels: (N,) classes; only masks of one class leave each other out. None: all do.

    Returns:
        list[int]: Their rows, rising.
    """
    rivals = mask_iou(masks, masks) > max_iou
    if labels is not None:
        rivals &= np.equal.outer(labels, labels)
    kept: list[int] = []
    for row in range(len(masks)):
        if not rivals[row, kept].any():
            kept.append(row)
    return kept
