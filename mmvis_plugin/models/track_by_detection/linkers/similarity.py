"""How much the objects of two frames overlap."""

import numpy as np
from pycocotools import mask as mask_utils

from mmvis_plugin.ytvis.mask_overlap import mask_iou

OVERLAPS = ("box", "mask", "box+mask")


def pairwise_overlap(
    kind: str,
    bboxes: np.ndarray,
    masks: list[dict],
    other_bboxes: np.ndarray,
    other_masks: list[dict],
) -> np.ndarray:
    """Overlap of each object with each of some others.

    Args:
        kind: ``box`` or ``mask`` for the IoU of these; ``box+mask`` for the mean of both, which
            is our reading of "IoU" where a paper leaves open which one.
        bboxes: (N, 4) xyxy. They need not be the boxes of the masks: of a track they may be
            predicted, while its mask is the last one seen.
        masks: N compressed COCO RLEs; not looked at for ``box``.
        other_bboxes: (M, 4) xyxy.
        other_masks: M RLEs of the same size.

    Returns:
        np.ndarray: (N, M) float64 in [0, 1].
    """
    parts = []
    if "box" in kind:
        parts.append(box_iou(bboxes, other_bboxes))
    if "mask" in kind:
        parts.append(mask_iou(masks, other_masks))
    return np.mean(parts, axis=0)


def box_iou(bboxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M) float64 IoU of (N, 4) and (M, 4) xyxy boxes; 0 for boxes without an area."""
    if not len(bboxes) or not len(others):  # of which pycocotools gives a list
        return np.zeros((len(bboxes), len(others)))
    return mask_utils.iou(_xywh(bboxes), _xywh(others), [0] * len(others))


def _xywh(bboxes: np.ndarray) -> np.ndarray:
    return np.hstack([bboxes[:, :2], bboxes[:, 2:] - bboxes[:, :2]]).astype(np.float64)
