"""The terms of the cost of matching an instance with a track, over all frames of a clip.

Source: VisTR (Wang et al., CVPR 2021), Sec. 3.4, and its repository. They are match costs of
MMDetection's ``HungarianAssigner``, which adds them up. The predictions are an ``InstanceData`` of
N instances with ``scores`` (N, T, K + 2) class logits and ``boxes`` (N, T, 4), the ground truth one
of G tracks with ``labels`` (G,), ``present`` (G, T) bool and ``boxes`` (G, T, 4).
Boxes are cx, cy, w, h in widths and heights of the frame. Frames in which the object is absent
count like the others.
"""

import torch
from mmdet.models.task_modules.assigners.match_cost import BaseMatchCost
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from .boxes import overlaps


@TASK_UTILS.register_module()
class VisTRClassCost(BaseMatchCost):
    """Minus the probability of the class, or of absence, in the mean over the frames."""

    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> Tensor:
        """(N, G) cost; see the module for the arguments."""
        probabilities = pred_instances.scores.softmax(-1)
        columns = torch.where(gt_instances.present, gt_instances.labels[:, None] + 1, 0)
        times = torch.arange(columns.shape[1], device=columns.device)
        return -self.weight * probabilities[:, times, columns].mean(-1)


@TASK_UTILS.register_module()
class VisTRBoxCost(BaseMatchCost):
    """Distance of the boxes, in the mean over the frames and the four coordinates."""

    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> Tensor:
        """(N, G) cost; see the module for the arguments."""
        distances = pred_instances.boxes[:, None] - gt_instances.boxes
        return self.weight * distances.abs().mean((-1, -2))


@TASK_UTILS.register_module()
class VisTRIoUCost(BaseMatchCost):
    """Minus the IoU of the boxes, in the mean over the frames."""

    def __call__(
        self, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs
    ) -> Tensor:
        """(N, G) cost; see the module for the arguments."""
        iou, _, _ = overlaps(pred_instances.boxes[:, None], gt_instances.boxes)
        return -self.weight * iou.mean(-1)
