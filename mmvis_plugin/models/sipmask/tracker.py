"""The online tracker: which detection is which instance.

Source: MaskTrack R-CNN (Yang et al., ICCV 2019), Section 3.3, as SipMask's code uses it.
MMDetection's ``MaskTrackRCNNTracker`` keeps its state on the module, and both of two claimants.
"""

import torch
import torch.nn.functional as F
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers.legacy_iou import legacy_iou


@TASK_UTILS.register_module()
class SipMaskTracker:
    """Gives detections the identities of instances known from earlier frames.

    What is known of instances is plain data, held by the caller: an ``InstanceData`` with
    ``bboxes`` in pixels of the original frame, ``embeddings``, ``labels``, ``ids`` and ``gaps``,
    the number of frames since an instance was last seen.

    Args:
        score_weight: Of the logarithm of a detection's score.
        iou_weight: Of the overlap with the instance's last box.
        label_weight: Of equal classes; a new instance counts as equal.
        max_gap: An instance is forgotten when it was seen more frames ago than this. The authors'
            code never forgets; 300 is more than any video of YouTube-VIS or OVIS is long.
    """

    def __init__(
        self,
        score_weight: float = 1.0,
        iou_weight: float = 2.0,
        label_weight: float = 10.0,
        max_gap: int = 300,
    ) -> None:
        self.score_weight = score_weight
        self.iou_weight = iou_weight
        self.label_weight = label_weight
        self.max_gap = max_gap

    def similarity(self, detections: InstanceData, known: InstanceData) -> Tensor:
        """How likely detections are these instances, as logarithms.

        Args:
            detections: D with ``bboxes``, ``scores``, ``labels``, ``embeddings``.
            known: T instances.

        Returns:
            (D, 1 + T), a new instance first.
        """
        logits = F.pad(detections.embeddings @ known.embeddings.T, (1, 0))
        overlaps = legacy_iou(detections.bboxes[:, None], known.bboxes)
        same = (detections.labels[:, None] == known.labels).to(logits.dtype)
        return (
            logits.log_softmax(1)
            + self.score_weight * detections.scores.log()[:, None]
            + self.iou_weight * F.pad(overlaps, (1, 0))
            + self.label_weight * F.pad(same, (1, 0), value=1.0)
        )

    def associate(
        self, detections: InstanceData, known: InstanceData | None, num_ids: int
    ) -> tuple[Tensor, InstanceData, int]:
        """Merge the detections of a frame into the known instances.

        Each detection goes to the instance it is most likely, or opens one. Of several for one
        instance the likeliest is taken and the others are dropped. A matched instance takes over
        embedding and box, its class stays.

        Args:
            detections: Of a frame.
            known: Instances before it, not changed; None at the beginning.
            num_ids: Identities opened so far; new ones count on from it.

        Returns:
            (D,) identities, -1 for those dropped; the instances after the frame; the number of
            identities opened.
        """
        if known is None:
            known = _instances(detections[:0], detections.labels[:0])
        likely, best = self.similarity(detections, known).max(1)
        columns = torch.arange(1, len(known) + 1, device=best.device)
        claims = best[:, None] == columns
        ids = torch.full_like(best, -1)
        claimed = claims.any(0)
        updated = known.new()
        updated.gaps = known.gaps + 1
        if len(detections) and len(known):
            winners = likely[:, None].masked_fill(~claims, -torch.inf).argmax(0)[claimed]
            ids[winners] = known.ids[claimed]
            updated.bboxes = known.bboxes.clone()
            updated.embeddings = known.embeddings.clone()
            updated.bboxes[claimed] = detections.bboxes[winners]
            updated.embeddings[claimed] = detections.embeddings[winners]
            updated.gaps[claimed] = 0
        new = best == 0
        ids[new] = num_ids + torch.arange(int(new.sum()), device=ids.device)
        opened = _instances(detections[new], ids[new])
        kept = InstanceData.cat([updated[updated.gaps <= self.max_gap], opened])
        return ids, kept, num_ids + len(opened)


def _instances(detections: InstanceData, ids: Tensor) -> InstanceData:
    """What is kept of detections that open an instance each."""
    return InstanceData(
        bboxes=detections.bboxes,
        embeddings=detections.embeddings,
        labels=detections.labels,
        ids=ids,
        gaps=torch.zeros_like(ids),
    )
