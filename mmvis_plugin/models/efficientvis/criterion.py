"""One-to-one matching of tracklets, and the losses of matched ones.

Source: EfficientVIS, Eq. 4 and 5 and, for the clips after the first, Sec. 3.3.
"""

from collections.abc import Sequence

import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .match_costs import crop_masks, frame_classes
from .tracklet_head import TrackletPredictions


@MODELS.register_module()
class TrackletCriterion(nn.Module):
    """Supervises one stage on one clip of each video.

    The paper minimises minus the probability of the right class and refers to DETR and QueryInst
    for the losses; that term is DETR's cross-entropy here.

    Args:
        assigner: Config of a ``HungarianAssigner`` over the costs of ``match_costs.py``.
        loss_cls: Softmax cross-entropy over classes and background, in every frame.
        loss_bbox: L1 of the boxes in widths and heights of the frame, where present.
        loss_iou: GIoU of the boxes, where present.
        loss_mask: Binary cross-entropy of the masks in every frame: zero where absent.
        loss_dice: Dice of the masks, where present.
        background_weight: Weight of unmatched tracklets in the mean of the class loss; those that
            are matched count 1 in every frame, present or not. DETR's value; the paper gives none.
    """

    def __init__(
        self,
        assigner: dict,
        loss_cls: dict,
        loss_bbox: dict,
        loss_iou: dict,
        loss_mask: dict,
        loss_dice: dict,
        background_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.assigner = TASK_UTILS.build(assigner)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_iou = MODELS.build(loss_iou)
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)
        self.background_weight = background_weight

    def assign(
        self,
        predictions: TrackletPredictions,
        targets: Sequence[InstanceData],
        image_sizes: Tensor,
        valid: Tensor | None = None,
        known: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Give every instance its query, Eq. 4.

        In a clip after the first, an instance that has a query keeps it, whatever the predictions:
        there is no second matching. An instance that is seen for the first time is matched with
        the queries that are still free, since at test time a free query has to take it up (our
        reading; the paper does not tell).

        Args:
            predictions: Of a stage, for B clips.
            targets: Per clip the ground truth of G tracklets, see ``match_costs.py``.
            image_sizes: (B, 2) height and width in pixels.
            valid: (B, T) bool, False in frames that only pad a clip; None where all are frames.
            known: Per clip (G,) what the clip before it came to; None for first clips.

        Returns:
            Per clip (G,) index of the query, -1 for none: absent so far, or no query is free.
        """
        assignments = []
        for b, target in enumerate(targets):
            queries = torch.full_like(target.labels, -1) if known is None else known[b].clone()
            free = torch.ones(predictions.logits.shape[1], dtype=torch.bool, device=queries.device)
            free[queries[queries >= 0]] = False
            new = (queries < 0) & target.present.any(1)
            length = target.present.shape[1] if valid is None else int(valid[b].sum())
            result = self.assigner.assign(
                tracklets(predictions, b, length)[free],
                first_frames(target, length)[new],
                img_meta=dict(img_shape=image_sizes[b].tolist()),
            )
            matched = result.gt_inds > 0
            rows = new.nonzero()[:, 0][result.gt_inds[matched] - 1]
            queries[rows] = free.nonzero()[:, 0][matched]
            assignments.append(queries)
        return assignments

    def forward(
        self,
        predictions: TrackletPredictions,
        targets: Sequence[InstanceData],
        assignments: Sequence[Tensor],
        image_sizes: Tensor,
        valid: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses of Eq. 5, each the mean over its entries.

        Args:
            predictions: Of a stage, for B clips.
            targets: Per clip the ground truth of G tracklets, see ``match_costs.py``.
            assignments: Per clip (G,) of :meth:`assign`.
            image_sizes: (B, 2) height and width in pixels.
            valid: (B, T) bool, False in frames that only pad a clip; None where all are frames.

        Returns:
            ``loss_cls``, ``loss_bbox``, ``loss_iou``, ``loss_mask`` and ``loss_dice``, scalars.
        """
        logits = predictions.logits
        if valid is None:
            valid = torch.ones(logits.shape[0], logits.shape[2], dtype=torch.bool)
        valid = valid.to(logits.device)
        clips, queries, matched = matched_pairs(targets, assignments)

        background = logits.shape[-1] - 1
        classes = torch.full(logits.shape[:3], background, device=logits.device)
        weights = torch.full(logits.shape[:3], self.background_weight, device=logits.device)
        classes[clips, queries] = frame_classes(matched, background)
        weights[clips, queries] = 1.0
        weights = weights * valid[:, None]
        loss_cls = self.loss_cls(
            logits.flatten(0, 2),
            classes.flatten(),
            weights.flatten(),
            avg_factor=reduce_mean(weights.sum()),
        )

        shown = valid[clips]  # (M, T) the frames of each matched tracklet
        present = matched.present & shown
        num_present = reduce_mean(present.sum().float()).clamp(min=1)
        num_shown = reduce_mean(shown.sum().float()).clamp(min=1)

        boxes = predictions.boxes[clips, queries][present]
        box_targets = matched.bboxes[present]
        scale = image_sizes.flip(1).repeat(1, 2)[clips][:, None].expand_as(matched.bboxes)[present]
        loss_bbox = self.loss_bbox(boxes / scale, box_targets / scale, avg_factor=num_present)
        loss_iou = self.loss_iou(boxes, box_targets, avg_factor=num_present)

        masks = predictions.masks[clips, queries][shown]  # (E, m, m)
        mask_boxes = predictions.mask_boxes[clips, queries][shown]
        mask_targets = crop_masks(matched.masks[shown], mask_boxes, masks.shape[-1]).flatten(1)
        masks = masks.flatten(1)
        loss_mask = self.loss_mask(masks, mask_targets, avg_factor=num_shown * masks.shape[1])
        seen = present[shown]
        loss_dice = self.loss_dice(masks[seen], mask_targets[seen], avg_factor=num_present)

        # Without objects every parameter still gets a gradient, as distributed training wants.
        nothing = predictions.boxes.sum() * 0 + predictions.masks.sum() * 0
        return dict(
            loss_cls=loss_cls,
            loss_bbox=loss_bbox + nothing,
            loss_iou=loss_iou + nothing,
            loss_mask=loss_mask + nothing,
            loss_dice=loss_dice + nothing,
        )


def tracklets(predictions: TrackletPredictions, clip: int, num_frames: int) -> InstanceData:
    """The tracklets of one clip in its first frames, as the match costs want them.

    Args:
        predictions: Of a stage, for B clips of N tracklets.
        clip: Number of the clip, in [0, B).
        num_frames: T, how many of its frames; those after them only pad the clip.

    Returns:
        InstanceData: N tracklets without gradients, see ``match_costs.py``.
    """
    return InstanceData(
        scores=predictions.logits[clip, :, :num_frames].detach(),
        bboxes=predictions.boxes[clip, :, :num_frames].detach(),
        masks=predictions.masks[clip, :, :num_frames].detach(),
        mask_boxes=predictions.mask_boxes[clip, :, :num_frames].detach(),
    )


def first_frames(target: InstanceData, num_frames: int) -> InstanceData:
    """Ground truth of a clip in its first frames.

    Args:
        target: G tracklets, see ``match_costs.py``.
        num_frames: T, how many of the clip's frames.

    Returns:
        InstanceData: The same tracklets with T frames.
    """
    return InstanceData(
        labels=target.labels,
        present=target.present[:, :num_frames],
        bboxes=target.bboxes[:, :num_frames],
        masks=target.masks[:, :num_frames],
    )


def matched_pairs(
    targets: Sequence[InstanceData], assignments: Sequence[Tensor]
) -> tuple[Tensor, Tensor, InstanceData]:
    """The M pairs of a query and an instance of all B clips.

    Args:
        targets: Per clip the ground truth of G tracklets, see ``match_costs.py``.
        assignments: Per clip (G,) index of each instance's query, -1 for none.

    Returns:
        (M,) long, the pair's clip; (M,) long, its query; and the ground truth of its instance.
    """
    clips, queries, instances = [], [], []
    for b, (target, assignment) in enumerate(zip(targets, assignments, strict=True)):
        has_query = assignment >= 0
        queries.append(assignment[has_query])
        clips.append(torch.full_like(queries[-1], b))
        instances.append(target[has_query])
    return torch.cat(clips), torch.cat(queries), InstanceData.cat(instances)
