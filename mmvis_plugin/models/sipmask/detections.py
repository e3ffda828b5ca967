"""From what the network predicts on a frame to its detections and their masks."""

import math

import torch
import torch.nn.functional as F
from mmdet.models.layers import fast_nms
from mmengine.structures import InstanceData
from torch import Tensor

from .head import HeadOutputs
from .masks import instance_masks
from .targets import to_boxes


def detect(
    outputs: HeadOutputs,
    frame: int,
    meta: dict,
    nms_pre: int,
    score_thr: float,
    iou_thr: float,
    top_k: int,
    max_per_img: int,
) -> InstanceData:
    """Detections of a frame after fast NMS (YOLACT, Section 4.2) by class.

    The score is the probability of a class times the centerness.

    Args:
        outputs: Of the network.
        frame: Index in the batch.
        meta: ``img_shape`` and ``scale_factor`` (width, height) of the frame.
        nms_pre: Locations of each level that go in.
        score_thr: Least score.
        iou_thr: Boxes that overlap a better one of their class more than this are suppressed.
        top_k: Boxes of each class that go into NMS.
        max_per_img: Most detections kept.

    Returns:
        From the highest score down: ``bboxes`` (n, 4) in pixels of the original frame, ``scores``,
        ``labels``, ``coeffs``.
    """
    scores = outputs.logits[frame].sigmoid() * outputs.centerness[frame].sigmoid()[:, None]
    rows = _best_of_each_level(scores.amax(1), outputs.counts, nms_pre)
    boxes = to_boxes(outputs.points[rows], outputs.distances[frame, rows])
    last = boxes.new_tensor([meta["img_shape"][1], meta["img_shape"][0]]) - 1
    boxes = torch.minimum(boxes.clamp(min=0), last.repeat(2)) / _scale(meta, boxes)
    # Rows go through NMS in the place of coefficients: float32 holds them up to 16 million.
    found, labels, kept = fast_nms(
        boxes,
        F.pad(scores[rows], (0, 1)),  # a background column, which it ignores
        rows[:, None].float(),
        score_thr,
        iou_thr,
        top_k,
        max_per_img,
    )
    kept = kept[:, 0].long() if len(labels) else rows[:0]
    return InstanceData(
        bboxes=found[:, :4],
        scores=found[:, 4],
        labels=labels,
        coeffs=outputs.coeffs[frame, kept].float(),
    )


def _best_of_each_level(scores: Tensor, counts: list[int], most: int) -> Tensor:
    """Rows of the ``most`` best locations of each level, where it has more."""
    rows, first = [], 0
    for level in scores.split(counts):
        best = level.topk(most).indices if len(level) > most else torch.arange(len(level))
        rows.append(best.to(scores.device) + first)
        first += len(level)
    return torch.cat(rows)


def _scale(meta: dict, like: Tensor) -> Tensor:
    """(4,) pixels of the resized frame per pixel of the original, for xyxy."""
    return like.new_tensor(meta["scale_factor"]).repeat(2)


def at_input_size(boxes: Tensor, meta: dict) -> Tensor:
    """Boxes (N, 4) of the original frame in pixels of the resized one."""
    return boxes * _scale(meta, boxes)


def masks_of(detections: InstanceData, outputs: HeadOutputs, frame: int, meta: dict) -> Tensor:
    """(n, H, W) bool masks of the original frame.

    The whole grid is interpolated to the size that it has in the original frame, rounded down as
    PyTorch 1.1 did, from which the ratio follows; then padding is cut off, and what is missing at
    the right and below is empty.

    Args:
        detections: As :func:`detect` gives them.
        outputs: Of the network.
        frame: Index in the batch.
        meta: ``ori_shape`` and ``scale_factor``.
    """
    height, width = meta["ori_shape"][:2]
    basis, stride = outputs.basis[frame].float(), outputs.basis_stride
    result = torch.zeros(len(detections), height, width, dtype=torch.bool, device=basis.device)
    if len(detections) == 0:
        return result
    boxes = at_input_size(detections.bboxes, meta) / stride
    soft = instance_masks(basis, detections.coeffs, boxes, outputs.regions)
    scale = meta["scale_factor"]
    size = [math.floor(n * (stride / s)) for n, s in zip(soft.shape[1:], scale[::-1], strict=True)]
    masks = F.interpolate(soft[None], size, mode="bilinear", align_corners=False)[0] > 0.5
    masks = masks[:, :height, :width]
    result[:, : masks.shape[1], : masks.shape[2]] = masks
    return result
