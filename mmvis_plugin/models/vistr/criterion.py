"""One-to-one matching of instances with the tracks of a clip, and the losses.

Source: VisTR (Wang et al., CVPR 2021), Sec. 3.4, and its repository.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss, DiceLoss, FocalLoss, L1Loss
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import TrackDataSample
from mmdet.structures.bbox import bbox_xyxy_to_cxcywh
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers.clip_matching import Matching, match_clips
from ..layers.clip_targets import clip_targets, sample_instances
from .boxes import giou_loss
from .network import ClipPredictions


def track_targets(sample: TrackDataSample, size: tuple[int, int]) -> InstanceData:
    """Ground truth of the tracks that a clip shows.

    Args:
        sample: T frames.
        size: Height and width of the padded frames.

    Returns:
        ``labels`` (G,); ``present`` (G, T) bool; ``boxes`` (G, T, 4) cx, cy, w, h in widths and
        heights of the unpadded frame and ``masks`` (G, T, H, W) uint8, both zero where the object
        is absent.
    """
    frames = sample.video_data_samples
    every_frame = torch.ones(len(frames), dtype=torch.bool)
    targets = clip_targets(frames, *sample_instances(sample), every_frame, size)
    height, width = frames[0].img_shape[:2]
    scale = targets.bboxes.new_tensor([width, height, width, height])
    return InstanceData(
        labels=targets.labels,
        present=targets.present,
        boxes=bbox_xyxy_to_cxcywh(targets.bboxes / scale),
        masks=targets.masks,
    )


@MODELS.register_module()
class VisTRCriterion(nn.Module):
    """Supervises the decoder's layers, each matched by itself.

    An instance that has a track is supervised in the frames that show the track's object. In the
    others it is to say "no object", and there is no loss of its box and mask.

    Sums over (instance, frame) pairs are divided by the number of tracks times that of frames,
    whether the objects are present or not, in the mean over all processes, at least 1.

    Args:
        assigner: Config of a ``HungarianAssigner``.
        loss_cls: Cross-entropy of all queries, divided by the sum of their classes' weights.
        loss_bbox: L1 of the boxes.
        loss_mask: Focal loss of the masks, in the mean over the pixels of a frame.
        loss_dice: Dice of the masks of a frame.
        iou_weight: Of the generalised IoU of the boxes.
        background_weight: Of the class "no object"; that of the others is 1.
    """

    def __init__(
        self,
        assigner: dict,
        loss_cls: dict,
        loss_bbox: dict,
        loss_mask: dict,
        loss_dice: dict,
        iou_weight: float = 2.0,
        background_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.assigner = TASK_UTILS.build(assigner)
        self.loss_cls: CrossEntropyLoss = MODELS.build(loss_cls)
        self.loss_bbox: L1Loss = MODELS.build(loss_bbox)
        self.loss_mask: FocalLoss = MODELS.build(loss_mask)
        self.loss_dice: DiceLoss = MODELS.build(loss_dice)
        self.iou_weight = iou_weight
        self.background_weight = background_weight

    def match(self, predictions: ClipPredictions, targets: Sequence[InstanceData]) -> Matching:
        """Give every track an instance, at the least cost in sum; none where there are too many.

        Args:
            predictions: Of a decoder layer, for B clips.
            targets: Of each clip, see :func:`track_targets`.

        Returns:
            The pairs; ``total`` counts a track in every frame.
        """
        logits, boxes = predictions.logits.transpose(1, 2), predictions.boxes.transpose(1, 2)
        instances = [
            InstanceData(scores=scores, boxes=clip)
            for scores, clip in zip(logits, boxes, strict=True)
        ]
        matching = match_clips(self.assigner, instances, targets)
        total = logits.new_tensor(float(sum(target.present.numel() for target in targets)))
        return matching._replace(total=reduce_mean(total).clamp(min=1))

    def forward(self, predictions: ClipPredictions, matching: Matching) -> dict[str, Tensor]:
        """Losses of classes and boxes of a decoder layer.

        Args:
            predictions: Of the layer, for B clips.
            matching: Of the layer.

        Returns:
            ``loss_cls``, ``loss_bbox`` and ``loss_iou``, scalars.
        """
        tracks, total = matching.tracks, matching.total
        logits = predictions.logits.transpose(1, 2)  # (B, N, T, K + 2)
        background = logits.shape[-1] - 1
        columns = torch.full(logits.shape[:3], background, device=logits.device)
        columns[matching.clips, matching.queries] = torch.where(
            tracks.present, tracks.labels[:, None] + 1, background
        )
        columns = columns.flatten()
        weights = torch.where(columns == background, self.background_weight, 1.0)
        loss_cls = self.loss_cls(
            logits.flatten(0, 2), columns, weight=weights, avg_factor=weights.sum()
        )
        boxes = predictions.boxes.transpose(1, 2)[matching.clips, matching.queries]
        boxes, box_targets = boxes[tracks.present], tracks.boxes[tracks.present]
        # Without objects every parameter still gets a gradient, as distributed training wants.
        nothing = predictions.boxes.sum() * 0
        return dict(
            loss_cls=loss_cls,
            loss_bbox=self.loss_bbox(boxes, box_targets, avg_factor=total) + nothing,
            loss_iou=self.iou_weight * giou_loss(boxes, box_targets).sum() / total + nothing,
        )

    def mask_losses(self, masks: Sequence[Tensor], matching: Matching) -> dict[str, Tensor]:
        """Losses of the masks at the size of the frames.

        Args:
            masks: Of each pair of the matching, (T, h, w) logits.
            matching: Of the last decoder layer.

        Returns:
            ``loss_mask`` and ``loss_dice``, scalars.
        """
        tracks = matching.tracks
        loss_mask = loss_dice = matching.total.new_zeros(())
        for logits, targets, present in zip(masks, tracks.masks, tracks.present, strict=True):
            # Enlarged masks and what is computed of them are not kept for the gradient: those of
            # all pairs would take gigabytes.
            focal, dice = checkpoint(
                self._mask_losses, logits[present], targets[present], use_reentrant=False
            )
            loss_mask, loss_dice = loss_mask + focal, loss_dice + dice
        return dict(loss_mask=loss_mask / matching.total, loss_dice=loss_dice / matching.total)

    def _mask_losses(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over P frames, from (P, h, w) logits and (P, H, W) masks."""
        size = targets.shape[-2:]
        logits = F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)
        logits, targets = logits.flatten(1), targets.flatten(1).to(logits.dtype)
        focal = self.loss_mask(logits, targets, avg_factor=logits.shape[1])
        return focal, self.loss_dice(logits, targets, avg_factor=1)
