"""The losses on single frames: boxes, classes, centerness, masks and embeddings.

Source: STMask (Li et al., CVPR 2021) names most of them; terms and weights follow the authors'
code, with what is said in the README.
"""

import torch
import torch.nn.functional as F
from mmdet.models.losses.iou_loss import diou_loss
from mmdet.models.task_modules.coders import BaseBBoxCoder
from mmdet.registry import MODELS
from torch import Tensor, nn

from .head import HeadOutputs
from .matching import LEAST_AREA, Matches, Targets, match_batch
from .prototypes import instance_masks


@MODELS.register_module()
class STMaskLoss(nn.Module):
    """Matches anchors with objects and computes the losses of single frames.

    Every loss is a mean over frames of means over a frame's anchors with an object, unless stated
    otherwise below.

    Args:
        pos_iou: See :func:`~mmvis_plugin.models.stmask.matching.match_anchors`.
        neg_iou: Likewise.
        neg_pos_ratio: Background anchors that learn, for each anchor with an object.
        box_weight: Weight of DIoU.
        cls_weight: Weight of cross-entropy.
        centerness_weight: Weight of smooth L1 to the DIoU that the box reached.
        mask_weight: Weight of binary cross-entropy.
        track_weight: Weight of the embedding loss.
        mask_margin: Factor on the predicted box by which the mask is cropped.
    """

    def __init__(
        self,
        pos_iou: float = 0.5,
        neg_iou: float = 0.4,
        neg_pos_ratio: int = 3,
        box_weight: float = 5.0,
        cls_weight: float = 6.125,
        centerness_weight: float = 20.0,
        mask_weight: float = 6.125,
        track_weight: float = 5.0,
        mask_margin: float = 1.2,
    ) -> None:
        super().__init__()
        self.pos_iou = pos_iou
        self.neg_iou = neg_iou
        self.neg_pos_ratio = neg_pos_ratio
        self.box_weight = box_weight
        self.cls_weight = cls_weight
        self.centerness_weight = centerness_weight
        self.mask_weight = mask_weight
        self.track_weight = track_weight
        self.mask_margin = mask_margin

    def forward(
        self, outputs: HeadOutputs, targets: Targets, bbox_coder: BaseBBoxCoder
    ) -> tuple[dict[str, Tensor], Matches]:
        """Losses of a batch of frames.

        Args:
            outputs: Of the network on B frames, with prototypes.
            targets: Their objects.
            bbox_coder: The head's box coder.

        Returns:
            ``loss_bbox``, ``loss_cls``, ``loss_centerness``, ``loss_mask``, ``loss_track``, and
            the matches they are of.
        """
        with torch.autocast(outputs.logits.device.type, enabled=False):
            matches = self.match(outputs, targets)
            chosen = matches.frames, matches.anchors
            boxes = bbox_coder.decode(outputs.priors[matches.anchors], outputs.deltas[chosen])
            distances = diou_loss(
                boxes, targets.boxes[matches.objects], reduction="none", eps=LEAST_AREA
            )
            centerness = self.centerness_loss(outputs.centerness[chosen], 1 - distances)
            masks = self._mask_loss(outputs, targets, matches, boxes.detach())
            embeddings = embedding_loss(
                outputs.embeddings[chosen], targets.identities[matches.objects], matches.weights
            )
            classes = self.class_loss(outputs.logits, matches)
        losses = dict(
            loss_bbox=self.box_weight * (matches.weights * distances).sum(),
            loss_cls=self.cls_weight * classes,
            loss_centerness=self.centerness_weight * (matches.weights * centerness).sum(),
            loss_mask=self.mask_weight * (matches.weights * masks).sum(),
            loss_track=self.track_weight * embeddings,
        )
        return losses, matches

    def match(self, outputs: HeadOutputs, targets: Targets) -> Matches:
        """Which anchors learn which object."""
        return match_batch(outputs.priors, outputs.logits, targets, self.pos_iou, self.neg_iou)

    def class_loss(self, logits: Tensor, matches: Matches) -> Tensor:
        """Cross-entropy of a batch (B, N, K + 1) with hard example mining, scalar."""
        return ohem_loss(logits, matches, self.neg_pos_ratio)

    def centerness_loss(self, centerness: Tensor, overlaps: Tensor) -> Tensor:
        """Distance (P,) to the DIoU (P,) of the predicted boxes, which it does not train."""
        return F.smooth_l1_loss(centerness, overlaps.detach(), reduction="none")

    def _mask_loss(
        self, outputs: HeadOutputs, targets: Targets, matches: Matches, boxes: Tensor
    ) -> Tensor:
        """Mask loss of each anchor with an object, cropped by its predicted box, enlarged: (P,)."""
        centres, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        halves = halves * self.mask_margin
        enlarged = torch.cat([centres - halves, centres + halves], dim=1).clamp(1e-5, 1)
        return mask_loss(
            outputs.prototypes,
            outputs.coeffs[matches.frames, matches.anchors],
            matches.frames,
            targets.masks,
            matches.objects,
            enlarged,
        )


def ohem_loss(logits: Tensor, matches: Matches, neg_pos_ratio: int) -> Tensor:
    """Cross-entropy with online hard example mining.

    ``(L_pos + r * L_neg) / (r + 1)``: L_pos is the mean over frames of means over anchors with an
    object, L_neg the mean over the ``r`` times as many background anchors of the batch that look
    least like background. Neutral anchors do not count. A batch without any object learns from
    ``r`` background anchors.

    Args:
        logits: (B, N, K + 1).
        matches: Of the batch.
        neg_pos_ratio: r.

    Returns:
        Scalar.
    """
    chosen = matches.frames, matches.anchors
    positive = F.cross_entropy(logits[chosen], matches.labels[chosen], reduction="none")
    background = logits[matches.labels == 0]
    hardness = background.logsumexp(1) - background[:, 0]  # cross-entropy with background
    count = neg_pos_ratio * max(len(matches.frames), 1)
    negative = hardness.topk(min(count, len(hardness))).values
    mean = negative.sum() / max(len(negative), 1)
    return ((matches.weights * positive).sum() + neg_pos_ratio * mean) / (neg_pos_ratio + 1)


def embedding_loss(embeddings: Tensor, identities: Tensor, weights: Tensor) -> Tensor:
    """Let embeddings of one object agree, and of different objects disagree.

    ``-log((1 + cos) / 2)`` for pairs of one object, ``-log((1 - cos) / 2)`` for others, over all
    pairs of anchors with an object in the batch, in one frame or two; the weighted mean.

    Args:
        embeddings: (P, D) of unit length.
        identities: (P,) object of each.
        weights: (P,); a pair weighs the product of its two.

    Returns:
        Scalar, 0 without pairs.
    """
    similarity = (embeddings @ embeddings.T + 1) / 2
    same = identities[:, None] == identities
    agreement = torch.where(same, similarity, 1 - similarity).clamp(min=1e-10)
    pair_weights = (weights[:, None] * weights).triu(diagonal=1)
    total = pair_weights.sum().clamp(min=torch.finfo(pair_weights.dtype).tiny)
    return -(agreement.log() * pair_weights).sum() / total


def mask_loss(
    prototypes: Tensor,
    coeffs: Tensor,
    frames: Tensor,
    masks: Tensor,
    objects: Tensor,
    boxes: Tensor,
) -> Tensor:
    """Binary cross-entropy of cropped soft masks, over the area of their boxes.

    As in the authors' code, soft masks are cropped by the boxes and a margin of one cell, and then
    interpolated to the size of the ground truth. Pixels count where the result is not zero, which
    includes a band beyond the box: there the prediction learns to end with its object.

    Args:
        prototypes: (B, M, h, w).
        coeffs: (P, M) before the tanh.
        frames: (P,) frame of each, ascending.
        masks: (G, H, W) ground truth, float.
        objects: (P,) row in ``masks``.
        boxes: (P, 4) xyxy in fractions of the frame.

    Returns:
        (P,) sum over the pixels, divided by the area of the box in pixels, of which each side
        counts as one pixel at least.
    """
    size = masks.shape[-2:]
    counts = torch.bincount(frames, minlength=len(prototypes)).tolist()
    parts = zip(
        prototypes, coeffs.split(counts), objects.split(counts), boxes.split(counts), strict=True
    )
    sums = [prototypes.new_zeros(0) + prototypes.sum() * 0 + coeffs.sum() * 0]
    # Frame by frame, since an instance of each would repeat its frame's prototypes.
    for frame_prototypes, frame_coeffs, frame_objects, frame_boxes in parts:
        if len(frame_coeffs) == 0:
            continue
        soft = instance_masks(frame_prototypes, frame_coeffs, frame_boxes)
        soft = F.interpolate(soft[None], size, mode="bilinear", align_corners=False)[0]
        errors = F.binary_cross_entropy(soft.clamp(0, 1), masks[frame_objects], reduction="none")
        sums.append((errors * (soft > 0)).sum((1, 2)))
    sides = (boxes[:, 2:] - boxes[:, :2]) * boxes.new_tensor([size[1], size[0]])
    return torch.cat(sums) / sides.clamp(min=1).prod(1)
