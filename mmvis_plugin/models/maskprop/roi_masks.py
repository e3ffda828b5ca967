"""Frame-level detections and their soft masks from any two-stage detector with a mask head.

MMDetection's RoI heads return binary masks pasted into the picture. Propagation wants the soft
masks, with their gradient, on the grid of the feature maps.
"""

import torch
from mmdet.models.roi_heads import (
    CascadeRoIHead,
    HybridTaskCascadeRoIHead,
    PointRendRoIHead,
    SCNetRoIHead,
    SparseRoIHead,
    StandardRoIHead,
)
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..layers.precision import at_least_float32

PIXELS_AT_ONCE = 2**26  # of all masks that a GPU pastes together


# Heads of those two kinds whose proposals or masks are made in another way.
OTHER_MASKS = (PointRendRoIHead, SCNetRoIHead, SparseRoIHead)


def check_detector(detector: nn.Module) -> None:
    """Raise ``TypeError`` unless soft masks can be computed with this detector."""
    roi_head = getattr(detector, "roi_head", None)
    known = isinstance(roi_head, (StandardRoIHead, CascadeRoIHead))
    known &= not isinstance(roi_head, OTHER_MASKS)
    if not known or not roi_head.with_mask:
        raise TypeError(
            "MaskProp wants a two-stage detector with boxes and masks, such as MaskRCNN, "
            f"CascadeRCNN or HybridTaskCascade; {type(detector).__name__} has "
            f"{type(roi_head).__name__ if roi_head is not None else 'no roi_head'}"
        )
    if getattr(roi_head, "with_semantic", False):
        raise TypeError(
            "the detector's semantic branch wants semantic ground truth, which videos lack: "
            "leave semantic_head and semantic_roi_extractor out of its roi_head"
        )


def detect(
    detector: nn.Module, x: tuple[Tensor, ...], metas: list[dict], proposals: list[InstanceData]
) -> list[InstanceData]:
    """Second-stage boxes without their masks.

    Args:
        detector: Two-stage detector.
        x: Feature maps (B, C, H_l, W_l) of B frames.
        metas: B metainfo dicts.
        proposals: Proposals of the B frames.

    Returns:
        Per frame ``bboxes`` (n, 4) in pixels of the resized frame, ``scores`` and ``labels``.
    """
    roi_head = detector.roi_head
    extra = dict(semantic_feat=None) if isinstance(roi_head, HybridTaskCascadeRoIHead) else {}
    return roi_head.predict_bbox(x, metas, proposals, roi_head.test_cfg, rescale=False, **extra)


def roi_masks(roi_head: nn.Module, x: tuple[Tensor, ...], rois: Tensor, labels: Tensor) -> Tensor:
    """Soft masks inside boxes, from the (last) mask head.

    Args:
        roi_head: RoI head of the detector.
        x: Feature maps (B, C, H_l, W_l).
        rois: (N, 5) frame index in the batch and xyxy box in pixels of the resized frame.
        labels: (N,) classes whose masks are taken.

    Returns:
        (N, m, m) in [0, 1], m the size of the head's masks, with gradient.
    """
    if isinstance(roi_head, HybridTaskCascadeRoIHead):
        extractor, heads = roi_head.mask_roi_extractor[-1], roi_head.mask_head
        feats = extractor(x[: extractor.num_inputs], rois)
        flow = None
        if roi_head.mask_info_flow:
            for head in heads[:-1]:
                flow = head(feats, flow, return_logits=False)
        head = heads[-1]
        logits = head(feats, flow, return_feat=False)
    else:
        cascaded = isinstance(roi_head, CascadeRoIHead)
        extractor = roi_head.mask_roi_extractor[-1] if cascaded else roi_head.mask_roi_extractor
        head = roi_head.mask_head[-1] if cascaded else roi_head.mask_head
        feats = extractor(x[: extractor.num_inputs], rois)
        if roi_head.with_shared_head:
            feats = roi_head.shared_head(feats)
        logits = head(feats)
    channels = torch.zeros_like(labels) if head.class_agnostic else labels
    chosen = logits[torch.arange(len(labels), device=labels.device), channels]
    return chosen.float().sigmoid()  # which 16 bits would round to 1 early


def paste_masks(masks: Tensor, bboxes: Tensor, stride: float, size: tuple[int, int]) -> Tensor:
    """Paste soft RoI masks onto the grid of a feature map, differentiably.

    Args:
        masks: (N, m, m) in [0, 1].
        bboxes: (N, 4) xyxy in pixels of the resized frame.
        stride: Pixels per cell of the grid.
        size: Height and width of the grid in cells.

    Returns:
        (N, H, W) in [0, 1], float32, zero outside of the boxes.
    """
    if len(masks) == 0:
        return masks.new_zeros((0, *size), dtype=torch.float32)
    return _do_paste_mask(masks[:, None], _with_extent(bboxes / stride), *size, skip_empty=False)[0]


def paste_in_frame(masks: Tensor, bboxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Binary masks of a frame from soft RoI masks; in float32 only some are held at a time.

    Args:
        masks: (N, m, m) in [0, 1].
        bboxes: (N, 4) xyxy in pixels of the frame.
        size: Height and width of the frame.

    Returns:
        (N, H, W) bool.
    """
    pasted = masks.new_zeros((len(masks), *size), dtype=torch.bool)
    boxes = _with_extent(bboxes)
    on_cpu = masks.device.type == "cpu"
    # On the CPU one at a time, and within its box alone.
    step = 1 if on_cpu else max(PIXELS_AT_ONCE // (size[0] * size[1]), 1)
    for start in range(0, len(masks), step):
        some = slice(start, start + step)
        soft, where = _do_paste_mask(masks[some, None], boxes[some], *size, skip_empty=on_cpu)
        pasted[(some, *where)] = soft > 0.5
    return pasted


def _with_extent(bboxes: Tensor) -> Tensor:
    """Boxes in float32; one without extent would be sampled at 0/0."""
    bboxes = bboxes.float()
    return torch.cat([bboxes[:, :2], torch.maximum(bboxes[:, 2:], bboxes[:, :2] + 1e-3)], dim=1)


def distinct_instances(masks: Tensor, scores: Tensor, max_overlap: float) -> Tensor:
    """Which instances of a frame are not a second detection, or a part, of a better one.

    Two masks are compared by their common area over the smaller one's area, so that a part inside
    a whole is found, which has a small IoU with it. All pairs are decided at once: a dropped
    instance still drops others, as in fast NMS.

    Args:
        masks: (N, H, W) in [0, 1].
        scores: (N,).
        max_overlap: Largest share in common with a higher-scoring instance, in [0, 1]; 1 keeps
            all.

    Returns:
        (N,) bool.
    """
    if max_overlap == 1:  # a share that is all of a mask may come out a little larger
        return torch.ones_like(scores, dtype=torch.bool)
    order = scores.argsort(descending=True, stable=True)
    flat = at_least_float32(masks[order].flatten(1))
    areas = flat.sum(1)
    smaller = torch.minimum(areas[:, None], areas).clamp(min=1e-6)
    with torch.autocast(masks.device.type, enabled=False):  # sums over all cells
        overlaps = (flat @ flat.T / smaller).triu(diagonal=1)
    distinct = torch.ones_like(scores, dtype=torch.bool)
    distinct[order] = (overlaps <= max_overlap).all(0)
    return distinct
