"""One-to-one matching of the queries of clips with their tracks."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.task_modules import BaseAssigner
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor


class Matching(NamedTuple):
    """The N queries of a batch that have a track.

    Attributes:
        clips: (N,) long, ascending: the clip of each.
        queries: (N,) long: its index there.
        tracks: The N tracks.
        total: Scalar: tracks of the batch, in the mean over all processes, at least 1.
    """

    clips: Tensor
    queries: Tensor
    tracks: InstanceData
    total: Tensor

    def queries_of_clips(self, num_clips: int) -> list[Tensor]:
        """The queries of each clip, in the order that they have here."""
        return [self.queries[self.clips == clip] for clip in range(num_clips)]


@torch.no_grad()
def match_clips(
    assigner: BaseAssigner, predictions: Sequence[InstanceData], targets: Sequence[InstanceData]
) -> Matching:
    """Give every track of B clips a query, at the least cost in sum.

    Args:
        assigner: A ``HungarianAssigner``.
        predictions: The queries of each clip, as its costs want them.
        targets: The tracks of each clip, likewise.

    Returns:
        The pairs.
    """
    clips, queries, tracks = [], [], []
    for b, (instances, target) in enumerate(zip(predictions, targets, strict=True)):
        result = assigner.assign(instances, target, img_meta={})
        (matched,) = result.gt_inds.nonzero(as_tuple=True)
        queries.append(matched)
        clips.append(torch.full_like(matched, b))
        tracks.append(target[result.gt_inds[matched] - 1])
    total = torch.tensor(float(sum(map(len, targets))), device=clips[0].device)
    return Matching(
        torch.cat(clips),
        torch.cat(queries),
        InstanceData.cat(tracks),
        reduce_mean(total).clamp(min=1),
    )
