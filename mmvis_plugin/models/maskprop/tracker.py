"""From clip-level instance tracks to the identities of a video.

Source: MaskProp, "Video-level instance segmentation": matching of clip-level tracks and
assignment of video-level instance IDs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import TASK_UTILS
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..layers.soft_iou import pairwise_soft_iou


@dataclass
class ClipTracks:
    """The instances of one key frame, propagated through the clip around it.

    Attributes:
        first: Index in the video of the clip's first frame; the clips at the ends of a video are
            cut off there.
        masks: (N, F, P) soft masks in [0, 1] of N instances in F frames of P pixels.
        labels: (N,) classes of the instances in the key frame.
        ids: (N,) identities, once assigned.
    """

    first: int
    masks: Tensor
    labels: Tensor
    ids: np.ndarray | None = None

    @property
    def last(self) -> int:
        """Index in the video of the clip's last frame."""
        return self.first + self.masks.shape[1] - 1


@TASK_UTILS.register_module()
class ClipTracker:
    """Gives the instances of a clip the identities of earlier clips that overlap it in time.

    Args:
        match_threshold: An instance takes an identity with a q above it, in [0, 1); without one
            it opens a new identity. The paper gives no value.
        within_class: Instances of different classes do not match, m = 0 (our reading: the paper
            does not tell whether the class takes part).

    Raises:
        ValueError: If the threshold is out of range.
    """

    def __init__(self, match_threshold: float = 0.2, within_class: bool = False) -> None:
        if not 0 <= match_threshold < 1:
            raise ValueError(f"match_threshold must be in [0, 1), got {match_threshold}")
        self.match_threshold = match_threshold
        self.within_class = within_class

    def assign(self, clip: ClipTracks, history: Sequence[ClipTracks], num_ids: int) -> np.ndarray:
        """Identities of the clip's instances.

        The instances of a frame are assigned together, so that q in sum is largest and no
        identity is given twice. The paper asks for the best q of each instance and is silent on
        two instances that want the same identity.

        Args:
            clip: The new clip.
            history: Earlier clips with their ids.
            num_ids: Identities opened so far; new ones count on from it.

        Returns:
            (N,) int64.
        """
        ids = np.full(len(clip.masks), -1, dtype=np.int64)
        scores, candidates = self.identity_scores(clip, history)
        scores = np.where(scores > self.match_threshold, scores, 0)
        rows, columns = linear_sum_assignment(scores, maximize=True)
        taken = scores[rows, columns] > 0
        ids[rows[taken]] = candidates[columns[taken]]
        new = np.flatnonzero(ids < 0)
        ids[new] = num_ids + np.arange(len(new))
        return ids

    def identity_scores(
        self, clip: ClipTracks, history: Sequence[ClipTracks]
    ) -> tuple[np.ndarray, np.ndarray]:
        """q_t^i(y): mean matching score of instance i with all earlier instances of id y.

        Args:
            clip: The clip centred at t, N instances.
            history: Earlier clips with ids.

        Returns:
            (N, Y) scores in [0, 1], and the (Y,) identities they are for.
        """
        overlapping = [
            other
            for other in history
            if len(other.masks) and other.last >= clip.first and other.first <= clip.last
        ]
        if not overlapping:
            return np.zeros((len(clip.masks), 0)), np.zeros(0, dtype=np.int64)
        scores = matching_scores(clip, overlapping)
        if self.within_class:
            labels = torch.cat([other.labels for other in overlapping])
            scores = scores * (clip.labels[:, None] == labels)
        scores = scores.cpu().numpy()
        ids = np.concatenate([other.ids for other in overlapping])
        candidates, index = np.unique(ids, return_inverse=True)
        belongs = (index[:, None] == np.arange(len(candidates))).astype(scores.dtype)
        return scores @ belongs / belongs.sum(0), candidates


def matching_scores(clip: ClipTracks, others: Sequence[ClipTracks]) -> Tensor:
    """m_{t,t'}^{i,j}: soft IoU of two clip-level tracks, averaged over the frames they share.

    Args:
        clip: The clip centred at t, N instances.
        others: Earlier clips that share a frame with it at least, M instances in all.

    Returns:
        (N, M) in [0, 1].
    """
    num_frames, pixels = clip.masks.shape[1:]
    counts = [len(other.masks) for other in others]
    # All earlier instances on the time axis of the clip; frames they do not cover are not shared.
    aligned = clip.masks.new_zeros(sum(counts), num_frames, pixels)
    shared = clip.masks.new_zeros(sum(counts), num_frames)
    starts = np.cumsum([0, *counts]).tolist()
    for start, stop, other in zip(starts[:-1], starts[1:], others, strict=True):
        rows = slice(start, stop)
        first, last = max(clip.first, other.first), min(clip.last, other.last)
        here = slice(first - clip.first, last - clip.first + 1)
        aligned[rows, here] = other.masks[:, first - other.first : last - other.first + 1]
        shared[rows, here] = 1
    overlaps = pairwise_soft_iou(clip.masks.transpose(0, 1), aligned.transpose(0, 1))
    # No matrix product, which autocast would round.
    return (overlaps * shared.T[:, None]).sum(0) / shared.sum(1)
