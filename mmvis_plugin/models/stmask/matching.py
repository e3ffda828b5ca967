"""Which anchors learn which object.

Source: `match` of the authors' code; the paper does not describe it. MMDetection's assigners know
neither the refinement by class scores nor the rule on anchors that fit two objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

NEUTRAL = -1  # the label of anchors that are neither an object nor background
# Least area by which overlaps are divided. MMDetection's functions expect pixels; in fractions of
# the frame the areas of small boxes are 1e-5.
LEAST_AREA = 1e-10


@dataclass
class Targets:
    """The objects of a batch of frames, one after another.

    Attributes:
        boxes: (G, 4) xyxy in fractions of the padded frame.
        labels: (G,) 0-based classes.
        masks: (G, H, W) at the size of the padded frame, float.
        frames: (G,) index of the frame in the batch, ascending.
        identities: (G,) which object it is, the same number for one object in all frames.
        num_frames: B.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    frames: Tensor
    identities: Tensor
    num_frames: int


@dataclass
class Matches:
    """The anchors of a batch and the objects they learn.

    Attributes:
        labels: (B, N) class + 1, 0 for background, ``NEUTRAL`` for neither.
        frames: (P,) frame of each anchor with an object, ascending.
        anchors: (P,) its index among the N.
        objects: (P,) its object in the ``Targets``.
        weights: (P,) one over the number of such anchors of the frame and the number of frames,
            so that a weighted sum is a mean over frames of means over anchors.
    """

    labels: Tensor
    frames: Tensor
    anchors: Tensor
    objects: Tensor
    weights: Tensor


def collect_targets(
    samples: Sequence[DetDataSample], identities: Sequence[Tensor], images: Tensor
) -> Targets:
    """Objects of a batch of frames.

    Args:
        samples: B frames with ``gt_instances`` in pixels.
        identities: Identities of each frame's objects.
        images: (B, 3, H, W) padded frames; give size, type and device.
    """
    objects = [sample.gt_instances for sample in samples]
    counts = torch.tensor([len(found) for found in objects], device=images.device)
    size = images.new_tensor([images.shape[-1], images.shape[-2]]).repeat(2)
    return Targets(
        boxes=torch.cat([found.bboxes for found in objects]).to(images) / size,
        labels=torch.cat([found.labels for found in objects]),
        masks=torch.cat([found.masks.to_tensor(images.dtype, images.device) for found in objects]),
        frames=torch.repeat_interleave(counts),
        identities=torch.cat(list(identities)),
        num_frames=len(objects),
    )


@torch.no_grad()
def match_batch(
    priors: Tensor, logits: Tensor, targets: Targets, pos_iou: float, neg_iou: float
) -> Matches:
    """:func:`match_anchors` for all frames of a batch.

    Args:
        priors: (N, 4), as the objects' boxes.
        logits: (B, N, K + 1).
        targets: The objects.
        pos_iou: See :func:`match_anchors`.
        neg_iou: See :func:`match_anchors`.
    """
    counts = torch.bincount(targets.frames, minlength=targets.num_frames).tolist()
    labels, objects, first = [], [], 0
    for frame, count in enumerate(counts):
        here = slice(first, first + count)
        matched = match_anchors(
            priors, logits[frame], targets.boxes[here], targets.labels[here], pos_iou, neg_iou
        )
        labels.append(matched[0])
        objects.append(matched[1] + first)
        first += count
    labels = torch.stack(labels)
    frames, anchors = (labels > 0).nonzero(as_tuple=True)
    num_positives = torch.bincount(frames, minlength=len(labels))
    return Matches(
        labels=labels,
        frames=frames,
        anchors=anchors,
        objects=torch.stack(objects)[frames, anchors],
        weights=1 / (num_positives[frames] * len(labels)).to(logits.dtype),
    )


def match_anchors(
    priors: Tensor,
    logits: Tensor,
    boxes: Tensor,
    labels: Tensor,
    pos_iou: float = 0.5,
    neg_iou: float = 0.4,
) -> tuple[Tensor, Tensor]:
    """Match the anchors of one frame with its objects.

    1. An anchor goes with the object it overlaps most: from an IoU of ``pos_iou`` it learns it,
       below ``neg_iou`` it is background, between them neutral.
    2. One that overlaps two objects or more by over ``neg_iou`` is neutral.
    3. Anchors above ``pos_iou`` are refined by how well they classify already: with
       ``s = 2 / (1 + exp(CE))`` in (0, 1] added to its IoU, and the mean of ``s`` to both
       thresholds, an anchor may become neutral or background.
    4. Each object keeps the anchor it overlaps most, whatever that says, the best pair of object
       and anchor choosing first.

    In the authors' code the raised thresholds of step 3 also apply to anchors without ``s``, which
    turns all neutral ones into background as soon as a frame has a match; here they stay neutral.

    Args:
        priors: (N, 4) xyxy.
        logits: (N, K + 1), background first.
        boxes: (G, 4) xyxy.
        labels: (G,) 0-based.
        pos_iou: In (0, 1].
        neg_iou: In (0, ``pos_iou``].

    Returns:
        (N,) class + 1, 0 for background or ``NEUTRAL``, and the (N,) object of each anchor.
    """
    if len(boxes) == 0:
        nothing = torch.zeros(len(priors), dtype=torch.long, device=priors.device)
        return nothing, nothing
    overlaps = bbox_overlaps(boxes, priors, eps=LEAST_AREA)
    best, objects = overlaps.max(0)
    crowded = (overlaps > neg_iou).sum(0) > 1
    matched = labels[objects] + 1
    matched[best < pos_iou] = NEUTRAL
    matched[best < neg_iou] = 0
    matched[crowded] = NEUTRAL

    (candidates,) = (matched > 0).nonzero(as_tuple=True)
    if len(candidates):
        errors = F.cross_entropy(logits[candidates], matched[candidates], reduction="none")
        scores = 2 / (1 + errors.exp())
        quality = best[candidates] + scores - scores.mean()
        matched[candidates[quality < pos_iou]] = NEUTRAL
        matched[candidates[quality < neg_iou]] = 0

    for _ in range(len(boxes)):
        # An index of one element; a number would have to come from the GPU first.
        pair = overlaps.flatten().argmax(0, keepdim=True)
        chosen, anchor = pair // len(priors), pair % len(priors)
        matched[anchor], objects[anchor] = labels[chosen] + 1, chosen
        overlaps[chosen], overlaps[:, anchor] = -1, -1
    return matched, objects
