"""The box terms of the cost of matching a query with a track, over all frames of a clip.

Source: SeqFormer (Wu et al., ECCV 2022), Sec. 3.4, and its repository. They are match costs of
MMDetection's ``HungarianAssigner``, which adds them up; the class term is its ``FocalLossCost``.
The predictions are an ``InstanceData`` of Q queries with ``boxes`` (Q, T, 4), the ground truth one
of G tracks with ``boxes`` (G, T, 4): cx, cy, w, h in widths and heights of the frame.
"""

import torch
from mmdet.models.task_modules.assigners.match_cost import BaseMatchCost
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor


@TASK_UTILS.register_module()
class ClipBoxL2Cost(BaseMatchCost):
    """Euclidean distance of the 4T coordinates; neither summed up by frames nor averaged."""

    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> Tensor:
        """(Q, G) cost; see the module for the arguments."""
        boxes, targets = pred_instances.boxes.flatten(1), gt_instances.boxes.flatten(1)
        return self.weight * torch.cdist(boxes, targets)


@TASK_UTILS.register_module()
class ClipGIoUCost(BaseMatchCost):
    """Minus the generalised IoU, in the mean over the frames."""

    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> Tensor:
        """(Q, G) cost; see the module for the arguments."""
        boxes = bbox_cxcywh_to_xyxy(pred_instances.boxes.transpose(0, 1))
        targets = bbox_cxcywh_to_xyxy(gt_instances.boxes.transpose(0, 1))
        # A box where the object is absent has an area of 1e-12.
        return -self.weight * bbox_overlaps(boxes, targets, mode="giou", eps=1e-12).mean(0)
