"""Training losses.

Source: SipMask (Cao et al., ECCV 2020), Section 3.3 (mask alignment weighting); terms as in the
authors' code. All of them weigh 1.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import sigmoid_focal_loss as cuda_focal_loss
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..layers.legacy_iou import legacy_iou
from .head import HeadOutputs, center_features
from .masks import instance_masks
from .targets import Objects, assign, to_boxes

INFINITE = 1e8


@MODELS.register_module()
class SipMaskLoss(nn.Module):
    """Matches locations with objects and computes the losses.

    Args:
        ranges: Largest distance from a location to the box of its object, in pixels, of each level
            but the last.
        radius: Of centre sampling, in strides.
        align_weighting: Whether the mask loss of a location is weighed by how well it predicts
            class and box.
        jitter: Share of a reference object's size by which its box is moved and resized at most.
    """

    def __init__(
        self,
        ranges: Sequence[float] = (64, 128, 256, 512),
        radius: float = 1.5,
        align_weighting: bool = True,
        jitter: float = 0.05,
    ) -> None:
        super().__init__()
        self.register_buffer(
            "ranges",
            torch.tensor([[-1, *ranges], [*ranges, INFINITE]], dtype=torch.float32).T,
            persistent=False,
        )
        self.radius = radius
        self.align_weighting = align_weighting
        self.jitter = jitter

    def forward(
        self,
        outputs: HeadOutputs,
        objects: Sequence[Objects],
        references: tuple[Tensor, Sequence[Objects]] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            outputs: On B frames.
            objects: Of the B frames.
            references: (B, D, h, w) embeddings of the reference frames and their objects.

        Returns:
            ``loss_cls``, ``loss_bbox``, ``loss_centerness``, ``loss_mask``, and ``loss_match`` with
            references.
        """
        with torch.autocast(outputs.logits.device.type, enabled=False):
            return self._losses(outputs, objects, references)

    def _losses(
        self,
        outputs: HeadOutputs,
        objects: Sequence[Objects],
        references: tuple[Tensor, Sequence[Objects]] | None,
    ) -> dict[str, Tensor]:
        counts = torch.tensor(outputs.counts, device=self.ranges.device)
        ranges = self.ranges.repeat_interleave(counts, dim=0)
        assigned = [
            assign(outputs.points, outputs.strides, ranges, found.boxes, self.radius)
            for found in objects
        ]
        chosen = torch.stack([index for index, _ in assigned])
        losses = self.location_losses(
            outputs, objects, chosen, torch.stack([distances for _, distances in assigned])
        )
        # Nothing to learn still has to reach every parameter, or two processes would differ.
        nothing = 0 * (outputs.coeffs.sum() + outputs.basis.sum())
        mask_losses, match_losses = [], []
        for i, found in enumerate(objects):
            places = self._places_of_masks(outputs, chosen[i], i)
            boxes = to_boxes(outputs.points[places], outputs.distances[i, places]).detach()
            learnt = chosen[i, places]
            mask_losses.append(self._mask_loss(outputs, i, places, boxes, found, learnt))
            if references is not None:
                embeddings = outputs.embeddings[i].float()
                features = center_features(embeddings, boxes, outputs.stride)
                maps, others = references[0][i].float(), references[1][i]
                shifted = jittered(others.boxes, self.jitter)
                known = center_features(maps, shifted, outputs.stride)
                same = found.identities[learnt][:, None] == others.identities
                match_losses.append(match_loss(features, known, same))
        losses["loss_mask"] = torch.stack(mask_losses).mean() + nothing
        if references is not None:
            nothing = 0 * (outputs.embeddings.sum() + references[0].sum())
            losses["loss_match"] = torch.stack(match_losses).mean() + nothing
        return losses

    def location_losses(
        self,
        outputs: HeadOutputs,
        objects: Sequence[Objects],
        chosen: Tensor,
        distances: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of classes, boxes and centerness.

        Args:
            outputs: On B frames.
            objects: Of the B frames.
            chosen: (B, N) object of each location, -1 for none.
            distances: (B, N, 4) to the borders of its box.

        Returns:
            Focal loss over positives and frames; -log IoU, weighed by the centerness that is
            wanted; binary cross-entropy, mean over positives.
        """
        num_classes = outputs.logits.shape[-1]
        labels = torch.full_like(chosen, num_classes)
        for i, found in enumerate(objects):
            positive = chosen[i] >= 0
            labels[i, positive] = found.labels[chosen[i, positive]]
        frames, places = (chosen >= 0).nonzero(as_tuple=True)
        loss_cls = _focal_loss(outputs.logits.flatten(0, 1), labels.flatten())
        loss_cls = loss_cls / (len(places) + len(objects))
        predicted, wanted = outputs.distances[frames, places], distances[frames, places]
        centerness = outputs.centerness[frames, places]
        if len(places) == 0:
            nothing = 0 * (outputs.distances.sum() + outputs.centerness.sum())
            return dict(loss_cls=loss_cls, loss_bbox=nothing, loss_centerness=nothing)
        wanted_centerness = _centerness(wanted)
        points = outputs.points[places]
        ious = legacy_iou(to_boxes(points, predicted), to_boxes(points, wanted)).clamp(min=1e-6)
        loss_bbox = -(ious.log() * wanted_centerness).sum() / wanted_centerness.sum()
        return dict(
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            loss_centerness=F.binary_cross_entropy_with_logits(centerness, wanted_centerness),
        )

    def _places_of_masks(self, outputs: HeadOutputs, chosen: Tensor, frame: int) -> Tensor:
        """(P,) locations whose predicted box covers more than one cell of the basis."""
        (places,) = (chosen >= 0).nonzero(as_tuple=True)
        distances = outputs.distances[frame, places].detach()
        areas = (distances[:, :2] + distances[:, 2:]).prod(1) / outputs.basis_stride**2
        return places[areas > 1]

    def _mask_loss(
        self,
        outputs: HeadOutputs,
        frame: int,
        places: Tensor,
        boxes: Tensor,
        objects: Objects,
        learnt: Tensor,
    ) -> Tensor:
        """Mask loss of a frame: the mean of its locations, scalar.

        Binary cross-entropy inside the predicted box, over the box's area. With
        ``align_weighting`` a location weighs the product of its class probability and the IoU of
        its box; the weights have mean 1.

        Args:
            outputs: Of the network.
            frame: Index in the batch.
            places: (P,) locations.
            boxes: (P, 4) their predicted boxes in pixels.
            objects: Of the frame.
            learnt: (P,) row in ``objects`` of each location.
        """
        if len(places) == 0:
            return boxes.sum() * 0
        boxes = boxes / outputs.basis_stride
        basis = outputs.basis[frame].float()
        coeffs = outputs.coeffs[frame, places].float()
        predicted = instance_masks(basis, coeffs, boxes, outputs.regions)
        size = basis.shape[-2:]
        masks = F.interpolate(objects.masks[None], size, mode="bilinear", align_corners=False)[0]
        with torch.no_grad():
            wanted = (masks > 0.5)[learnt] & _inside(boxes, size)
        errors = F.binary_cross_entropy(predicted, wanted.float(), reduction="none").sum((1, 2))
        errors = errors / (boxes[:, 2:] - boxes[:, :2]).prod(1) / len(boxes)
        if not self.align_weighting:
            return errors.sum()
        probabilities = outputs.logits[frame, places, objects.labels[learnt]].detach().sigmoid()
        weights = probabilities * legacy_iou(objects.boxes[learnt] / outputs.basis_stride, boxes)
        return (errors * weights / (weights.sum() + 1e-4) * len(weights)).sum()


def match_loss(features: Tensor, known: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy of which known object a location's object is; 0 without locations.

    Args:
        features: (P, D) of the locations.
        known: (R, D) of the reference frame's objects.
        same: (P, R) bool: whose they are; a row without any is of an object that is not there.
    """
    if len(features) == 0:
        return features.sum() * 0
    logits = F.pad(features @ known.T, (1, 0))  # first: none of them
    target = torch.cat([~same.any(1, keepdim=True), same], 1).int().argmax(1)
    return F.cross_entropy(logits, target)


def jittered(boxes: Tensor, amplitude: float) -> Tensor:
    """Boxes (N, 4), moved and resized at random by up to a share ``amplitude`` of their size."""
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    change = torch.empty_like(boxes).uniform_(-amplitude, amplitude)
    centres, sizes = centres + sizes * change[:, :2], sizes * (1 + change[:, 2:])
    return torch.cat([centres - sizes / 2, centres + sizes / 2], 1)


def _focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal loss (gamma 2, alpha 0.25) of (N, K) logits, K as label of the background; the sum."""
    if logits.is_cuda:
        return cuda_focal_loss(logits, labels, 2.0, 0.25, None, "sum")
    wanted = F.one_hot(labels, logits.shape[1] + 1)[:, :-1]
    return py_sigmoid_focal_loss(logits, wanted, gamma=2.0, alpha=0.25, reduction="sum")


def _centerness(distances: Tensor) -> Tensor:
    """(P,) in (0, 1], 1 at the centre of a box, of (P, 4) distances to its borders."""
    pairs = distances.unflatten(1, (2, 2))  # left and upper, right and lower
    return (pairs.amin(1) / pairs.amax(1)).prod(1).sqrt()


def _inside(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """(P, H, W) bool: which cells of the grid are in the boxes."""
    x, y = (torch.arange(n, device=boxes.device) for n in reversed(size))
    across = (x >= boxes[:, :1]) & (x < boxes[:, 2:3])
    down = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:])
    return down[:, :, None] & across[:, None]
