"""The terms of the matching cost of two tracklets.

Source: EfficientVIS, Sec. 3.2: L_match = sum over t of -p(c^t) + [present] (L_box - L_maskIoU).

They are match costs of MMDetection's ``HungarianAssigner``, which adds them up. The predictions
are an ``InstanceData`` of N tracklets in T frames with

- ``scores`` (N, T, K+1) class logits, the last one background,
- ``bboxes`` (N, T, 4) xyxy in pixels of the resized frame,
- ``masks`` (N, T, m, m) mask logits inside ``mask_boxes`` (N, T, 4);

the ground truth is one of G tracklets with

- ``labels`` (G,), ``present`` (G, T) bool, ``bboxes`` (G, T, 4),
- ``masks`` (G, T, H, W) uint8, zero where the instance is absent.
"""

import torch
from mmdet.models.task_modules.assigners.match_cost import BaseMatchCost
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers.memory_format import crop_rois


@TASK_UTILS.register_module()
class TrackletClassCost(BaseMatchCost):
    """Minus the probability of the right class in every frame: background where it is absent."""

    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> Tensor:
        """(N, G) cost; see the module for the arguments."""
        probabilities = pred_instances.scores.softmax(-1)
        background = probabilities.shape[-1] - 1
        classes = frame_classes(gt_instances, background)
        times = torch.arange(classes.shape[1], device=classes.device)
        return -self.weight * probabilities[:, times, classes].sum(-1)


@TASK_UTILS.register_module()
class TrackletL1Cost(BaseMatchCost):
    """L1 distance of the boxes in the frames where the instance is present.

    Coordinates are in widths and heights of the frame; the four of a box are summed.
    """

    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, img_meta: dict, **kwargs
    ) -> Tensor:
        """(N, G) cost; ``img_meta`` has ``img_shape``; see the module for the other arguments."""
        height, width = img_meta["img_shape"][:2]
        scale = pred_instances.bboxes.new_tensor([width, height, width, height])
        boxes = (pred_instances.bboxes / scale).flatten(1)
        targets = (gt_instances.bboxes / scale).flatten(1)
        present = gt_instances.present.repeat_interleave(4, 1)
        distance = (boxes[:, None] - targets).abs()
        return self.weight * (distance * present).sum(-1)


@TASK_UTILS.register_module()
class TrackletGIoUCost(BaseMatchCost):
    """Minus the generalised IoU of the boxes in the frames where the instance is present."""

    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> Tensor:
        """(N, G) cost; see the module for the arguments."""
        boxes = pred_instances.bboxes.transpose(0, 1)
        targets = gt_instances.bboxes.transpose(0, 1)
        giou = bbox_overlaps(boxes, targets, mode="giou")  # (T, N, G)
        return -self.weight * (giou * gt_instances.present.T[:, None]).sum(0)


@TASK_UTILS.register_module()
class TrackletMaskIoUCost(BaseMatchCost):
    """Minus the soft IoU of the masks in the frames where the instance is present.

    The IoU is that in the whole frame, counted on the grid of the predicted mask.
    """

    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> Tensor:
        """(N, G) cost; see the module for the arguments."""
        masks, boxes = pred_instances.masks.sigmoid(), pred_instances.mask_boxes
        size = masks.shape[-1]
        targets = crop_all_masks(gt_instances.masks, boxes, size)  # (N, T, G, m, m)
        intersection = torch.einsum("ntp,ntgp->ntg", masks.flatten(2), targets.flatten(3))
        cell = box_area(boxes) / size**2
        pixels = gt_instances.masks.sum((-2, -1)).T  # (T, G), objects reach beyond the boxes
        union = masks.sum((-2, -1))[..., None] + pixels / cell[..., None] - intersection
        iou = intersection / torch.maximum(union, intersection).clamp(min=1e-6)
        return -self.weight * (iou * gt_instances.present.T).sum(1)


def frame_classes(gt_instances: InstanceData, background: int) -> Tensor:
    """(G, T) class of each tracklet in each frame, ``background`` where it is absent."""
    return torch.where(gt_instances.present, gt_instances.labels[:, None], background)


def box_area(boxes: Tensor) -> Tensor:
    """(...) area of (..., 4) xyxy boxes in square pixels, at least 1e-3."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return (width * height).clamp(min=1e-3)


def crop_masks(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Binary masks in boxes, one box for each mask.

    Args:
        masks: (K, H, W) of zeros and ones.
        boxes: (K, 4) xyxy in pixels of the masks.
        size: m.

    Returns:
        (K, m, m) float32, 1 in cells of which at least half lies on the mask; zero outside of the
        frame.
    """
    return _crop(masks[:, None], torch.arange(len(masks), device=masks.device), boxes, size)[:, 0]


def crop_all_masks(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Binary masks of all instances in all boxes of the same frame; see :func:`crop_masks`.

    Args:
        masks: (G, T, H, W).
        boxes: (N, T, 4).
        size: m.

    Returns:
        (N, T, G, m, m) float32.
    """
    frames = torch.arange(boxes.shape[1], device=boxes.device).repeat(len(boxes))
    crops = _crop(masks.transpose(0, 1), frames, boxes.flatten(0, 1), size)
    return crops.unflatten(0, boxes.shape[:2])


def _crop(masks: Tensor, frames: Tensor, boxes: Tensor, size: int) -> Tensor:
    rois = torch.cat([frames[:, None].float(), boxes.detach().float()], dim=1)
    # Four samples a cell: sampling as finely as the box would cost far more in boxes of the
    # size of the frame and change little, since the result is binary.
    crops = crop_rois(masks.float(), rois, size, sampling_ratio=2)
    return (crops >= 0.5).float()
