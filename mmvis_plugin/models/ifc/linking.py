"""Identities over overlapping windows, each compared with all earlier ones that it overlaps.

Source: IFC (Hwang et al., NeurIPS 2021), Sec. 3.3, and its repository.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# Of the quotients, as in the repository.
EPS = 1e-6


@dataclass(frozen=True)
class OverlapSettings:
    """How videos are cut into windows, and which masks of two windows may be one object's.

    Attributes:
        length: Frames of a window, T.
        stride: Frames from the start of a window to that of the next, in [1, length].
        min_iou: Soft IoU above which masks may be linked, in [0, 1).

    Raises:
        ValueError: If a value is out of its range.
    """

    length: int = 5
    stride: int = 1
    min_iou: float = 0.05

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.length:
            raise ValueError(
                f"windows must not leave a frame out: stride is {self.stride} at length "
                f"{self.length}"
            )
        if not 0 <= self.min_iou < 1:
            raise ValueError(f"min_iou must be in [0, 1), got {self.min_iou}")


@dataclass
class SeenWindow:
    """The masks of an earlier window.

    Attributes:
        first: Its first frame in the video.
        ids: (N,) long on the CPU, identities.
        masks: (N, F, P) probabilities.
    """

    first: int
    ids: Tensor
    masks: Tensor


class OverlapLinker:
    """Identities and classes of one video.

    The masks of a window are compared with those of each earlier window that it overlaps, over the
    pixels of all shared frames together. A pair's score is the mean of the soft IoU over the
    windows in which the identity was there. The assignment is one-to-one and greatest in sum;
    classes do not matter. What is not linked is a new identity, so that an object which is hidden
    for a whole window comes back as another one.

    What is kept is the masks of the windows that the next one can overlap and, per identity, the
    sum of the class probabilities.

    Args:
        num_classes: K.
        min_iou: Of :class:`OverlapSettings`.
    """

    def __init__(self, num_classes: int, min_iou: float = 0.05) -> None:
        self.min_iou = min_iou
        self._windows: list[SeenWindow] = []
        self._class_sums = torch.zeros(0, num_classes + 1)
        self._num_windows = torch.zeros(0)

    def link(self, first: int, masks: Tensor, probabilities: Tensor) -> Tensor:
        """Give the masks of the next window their identities.

        Args:
            first: The window's first frame in the video; no less than that of any before.
            masks: (N, F, P) probabilities of N masks in F frames of P pixels.
            probabilities: (N, K + 1) of their classes, the last column for no object.

        Returns:
            (N,) long on the CPU, no two alike; new identities count on from the highest.
        """
        self._windows = [w for w in self._windows if w.first + w.masks.shape[1] > first]
        ids = torch.full((len(masks),), -1, dtype=torch.long)
        known, scores = overlap_scores(self._windows, first, masks)
        scores = torch.where(scores > self.min_iou, scores, 0).cpu()
        rows, columns = linear_sum_assignment(scores.numpy(), maximize=True)
        linked = scores[rows, columns].numpy() > 0
        ids[columns[linked]] = known[rows[linked]]
        new = ids < 0
        ids[new] = len(self._num_windows) + torch.arange(int(new.sum()))
        self._windows.append(SeenWindow(first, ids, masks))
        self._count(ids, probabilities.float().cpu())
        return ids

    def _count(self, ids: Tensor, probabilities: Tensor) -> None:
        num_new = max(0, int(ids.max()) + 1 - len(self._num_windows)) if len(ids) else 0
        if num_new:
            zeros = self._class_sums.new_zeros(num_new, self._class_sums.shape[1])
            self._class_sums = torch.cat([self._class_sums, zeros])
            self._num_windows = torch.cat([self._num_windows, zeros[:, 0]])
        self._class_sums[ids] += probabilities
        self._num_windows[ids] += 1

    def class_scores(self) -> Tensor:
        """(I, K) probabilities of the classes of all identities, in the mean of their windows."""
        return self._class_sums[:, :-1] / self._num_windows[:, None]


def overlap_scores(
    windows: Sequence[SeenWindow], first: int, masks: Tensor
) -> tuple[Tensor, Tensor]:
    """Compare masks with the identities of earlier windows.

    Args:
        windows: Those that share a frame with the masks.
        first: Frame of the video that the masks begin with.
        masks: (N, F, P) probabilities.

    Returns:
        (I,) identities on the CPU, ascending, and (I, N) float32: the soft IoU over all shared
        frames, in the mean of the windows with the identity.
    """
    if not windows:
        return torch.zeros(0, dtype=torch.long), masks.new_zeros(0, len(masks))
    known, rows = torch.unique(torch.cat([w.ids for w in windows]), return_inverse=True)
    ious = torch.cat([shared_iou(w.masks[:, first - w.first :], masks) for w in windows])
    rows = rows.to(ious.device)
    sums = ious.new_zeros(len(known), len(masks)).index_add(0, rows, ious)
    return known, sums / (torch.bincount(rows, minlength=len(known))[:, None] + EPS)


def shared_iou(a: Tensor, b: Tensor) -> Tensor:
    """Soft IoU ``sum(a b) / sum(a + b - a b)`` of all pairs over the frames that both have.

    Args:
        a: (M, F_a, P) in [0, 1].
        b: (N, F_b, P) in [0, 1].

    Returns:
        (M, N) over the first ``min(F_a, F_b)`` frames; two empty masks give 0.
    """
    shared = min(a.shape[1], b.shape[1])
    a, b = a[:, :shared].flatten(1), b[:, :shared].flatten(1)
    intersection = a @ b.mT
    return intersection / (a.sum(1)[:, None] + b.sum(1) - intersection + EPS)


@dataclass
class MaskMeans:
    """Masks of one frame, in the mean of the windows that hold it."""

    sums: dict[int, Tensor] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, ids: Sequence[int], logits: Tensor) -> None:
        """Add what a window says.

        Args:
            ids: N identities.
            logits: (N, h, w) float32.
        """
        for instance, mask in zip(ids, logits, strict=True):
            # A view would keep the whole window alive.
            before = self.sums.get(instance)
            self.sums[instance] = mask.clone() if before is None else before + mask
            self.counts[instance] = self.counts.get(instance, 0) + 1

    def means(self) -> tuple[list[int], Tensor | None]:
        """Identities, ascending, and their (N, h, w) mean logits; None without any."""
        ids = sorted(self.sums)
        means = [self.sums[instance] / self.counts[instance] for instance in ids]
        return ids, torch.stack(means) if means else None


def tracks_of_classes(scores: Tensor, threshold: float, multi_class: bool) -> InstanceData:
    """The tracks of identities.

    Args:
        scores: (I, K) probabilities of their classes.
        threshold: Probability above which a class makes a track.
        multi_class: Whether an identity gives a track for each such class, where otherwise it
            gives one, of the class with the best score, whatever the threshold.

    Returns:
        ``instances_id``, ``labels`` and ``scores``, by identity, then by class.
    """
    if multi_class:
        ids, labels = (scores > threshold).nonzero(as_tuple=True)
        return InstanceData(instances_id=ids, labels=labels, scores=scores[ids, labels])
    best, labels = scores.max(dim=1)
    return InstanceData(instances_id=torch.arange(len(scores)), labels=labels, scores=best)
