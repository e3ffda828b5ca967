"""The online tracker: which detection is which instance.

Source: STMask (Li et al., CVPR 2021), Section 3.2, "Merge Frame-level and Cross-frame Instance
Segmentation"; values as in the authors' code.
"""

import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers.soft_iou import pairwise_soft_iou
from .matching import LEAST_AREA


@TASK_UTILS.register_module()
class STMaskTracker:
    """Gives detections the identities of instances known from earlier frames.

    What is known of instances is plain data, held by the caller: an ``InstanceData`` with
    ``bboxes``, ``scores``, ``labels``, ``coeffs``, ``embeddings``, ``masks`` as
    :func:`~mmvis_plugin.models.stmask.detections.detect` gives them, ``ids`` and ``gaps``, the
    number of frames since an instance was last matched with a detection.

    The similarity of a detection and an instance is ``(cos + 1) / 2`` of their embeddings, plus
    the IoU of their masks (binary at 0.5), plus twice that of their boxes. It competes with that
    of a dummy, a new instance: cosine 0 and both IoUs ``dummy_iou``, in all
    ``0.5 + (mask_weight + box_weight) * dummy_iou``.

    Args:
        mask_weight: Of the mask IoU.
        box_weight: Of the box IoU.
        dummy_iou: IoU of a new instance.
        score_decay: Factor on the score of an instance for each frame it is carried on.
        max_shown_gap: An instance is shown while it was matched at most so many frames ago ...
        min_score: ... and its score exceeds this ...
        min_area: ... and its mask has more cells than this.
        max_gap: An instance is forgotten when it was matched more frames ago than this. The
            authors' code never forgets; 300 is more than any video of YouTube-VIS or OVIS is long.
    """

    def __init__(
        self,
        mask_weight: float = 1.0,
        box_weight: float = 2.0,
        dummy_iou: float = 0.3,
        score_decay: float = 0.95,
        max_shown_gap: int = 10,
        min_score: float = 0.05,
        min_area: int = 1,
        max_gap: int = 300,
    ) -> None:
        self.mask_weight = mask_weight
        self.box_weight = box_weight
        self.dummy_iou = dummy_iou
        self.score_decay = score_decay
        self.max_shown_gap = max_shown_gap
        self.min_score = min_score
        self.min_area = min_area
        self.max_gap = max_gap

    def similarity(self, detections: InstanceData, tracks: InstanceData) -> Tensor:
        """How well detections and instances agree.

        Args:
            detections: D detections.
            tracks: T instances, carried to the same frame.

        Returns:
            (D, 1 + T), the dummy first.
        """
        dummy = 0.5 + (self.mask_weight + self.box_weight) * self.dummy_iou
        cosine = detections.embeddings @ tracks.embeddings.T
        masks = [(x.masks > 0.5).flatten(1).to(cosine.dtype) for x in (detections, tracks)]
        scores = (
            (cosine + 1) / 2
            + self.mask_weight * pairwise_soft_iou(*masks)
            + self.box_weight * bbox_overlaps(detections.bboxes, tracks.bboxes, eps=LEAST_AREA)
        )
        return torch.cat([scores.new_full((len(scores), 1), dummy), scores], dim=1)

    def associate(
        self, detections: InstanceData, tracks: InstanceData | None, num_ids: int
    ) -> tuple[InstanceData, int]:
        """Merge the detections of a frame into the known instances.

        Each detection goes to the instance it is most similar to, or opens one where that is the
        dummy. Of several for one instance the one with the highest score is taken and the others
        are dropped. A matched instance takes over everything but its identity. Instances that were
        not seen for too long are forgotten, and those whose box has grown beyond all numbers.

        Args:
            detections: Of a frame.
            tracks: Instances carried to it, with their gaps counted on; None at the beginning.
            num_ids: Identities opened so far; new ones count on from it.

        Returns:
            The instances of the frame, and the number of identities opened.
        """
        if tracks is None:
            return self._open(detections, num_ids), num_ids + len(detections)
        if len(detections):
            best = self.similarity(detections, tracks).argmax(1)
            claims = best[:, None] == torch.arange(1, len(tracks) + 1, device=best.device)
            claimed = claims.any(0)
            scores = detections.scores[:, None].expand_as(claims)
            winners = scores.masked_fill(~claims, -torch.inf)[:, claimed].argmax(0)
            matched = detections[winners]
            matched.ids = tracks.ids[claimed]
            matched.gaps = torch.zeros_like(matched.ids)
            opened = self._open(detections[best == 0], num_ids)
            num_ids += len(opened)
            tracks = InstanceData.cat([tracks[~claimed], matched, opened])
            tracks = tracks[tracks.ids.argsort()]
        kept = (tracks.gaps <= self.max_gap) & tracks.bboxes.isfinite().all(1)
        return tracks[kept], num_ids

    def _open(self, detections: InstanceData, num_ids: int) -> InstanceData:
        """New instances."""
        count = torch.arange(len(detections), device=detections.scores.device)
        opened = detections.new()
        opened.ids, opened.gaps = num_ids + count, torch.zeros_like(count)
        return opened

    def shown(self, tracks: InstanceData, max_gap: int) -> Tensor:
        """Which instances are part of the result of a frame: (T,) bool.

        Args:
            tracks: Instances of the frame.
            max_gap: Frames since the last match; ``max_shown_gap``, or 0 where nothing carries
                instances on.
        """
        areas = (tracks.masks > 0.5).flatten(1).sum(1)
        return (tracks.gaps <= max_gap) & (areas > self.min_area) & (tracks.scores > self.min_score)
