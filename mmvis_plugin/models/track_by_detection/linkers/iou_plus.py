"""IoUTracker+: the nearest remembered instance of the class, by overlap alone."""

from dataclasses import dataclass, field

import numpy as np
from mmdet.registry import TASK_UTILS

from .base import Detections, LinkState, OnlineLinker
from .similarity import pairwise_overlap

# Of overlap and equal class against the logarithm of the detection's score; MaskTrack R-CNN's
# weights (Yang et al., ICCV 2019, eq. 3).
OVERLAP_WEIGHT = 2.0
CLASS_WEIGHT = 10.0


@dataclass
class Remembered:
    """An instance as it was seen last.

    Attributes:
        id (int): Its identity.
        frame (int): Index of the frame.
        bbox (np.ndarray): (4,) xyxy.
        mask (dict): RLE.
        label (int): Its class.
    """

    id: int
    frame: int
    bbox: np.ndarray
    mask: dict
    label: int


@dataclass
class IoUPlusState(LinkState):
    """Attributes:
    memory (list[Remembered]): Instances that were seen in the last ``max_gap`` frames.
    """

    memory: list[Remembered] = field(default_factory=list)


@TASK_UTILS.register_module()
class IoUPlusLinker(OnlineLinker):
    """The baseline "IoUTracker+" of the MaskTrack R-CNN paper (Yang et al., ICCV 2019).

    It has MaskTrack R-CNN's memory and cues without its appearance. A detection fits an instance
    by ``log(score) + 2 overlap + 10 [same class]`` and claims the one that it fits best. It opens
    a track where that one is of another class or overlaps too little. Of several that claim one
    instance the best keeps it; the others are dropped.

    The paper does not say when a detection is new: that rule, ``min_iou`` and ``max_gap`` are our
    reading.

    Args:
        min_iou: Overlap from which a detection may be a remembered instance, in [0, 1].
        max_gap: Frames after which an instance that was not seen is forgotten. 300 is longer than
            any video of YouTube-VIS.
        overlap: See :class:`Linker`.
    """

    def __init__(self, min_iou: float = 0.3, max_gap: int = 300, overlap: str = "box") -> None:
        super().__init__(overlap)
        self.min_iou = min_iou
        self.max_gap = max_gap

    def start(self) -> IoUPlusState:
        """See :class:`Linker`."""
        return IoUPlusState()

    def link(self, state: IoUPlusState, detections: Detections) -> np.ndarray:
        """See :class:`OnlineLinker`."""
        oldest = state.num_frames - self.max_gap
        state.memory = [seen for seen in state.memory if seen.frame >= oldest]
        claimed, fits = self._claims(state.memory, detections)
        ids = np.full(len(detections), -1, dtype=np.int64)
        is_new = claimed < 0
        ids[is_new] = state.new_ids(int(is_new.sum()))
        for row in np.argsort(-fits, kind="stable"):
            if not is_new[row] and (found := state.memory[claimed[row]].id) not in ids:
                ids[row] = found
        self._remember(state, detections, ids)
        return ids

    def _claims(
        self, memory: list[Remembered], detections: Detections
    ) -> tuple[np.ndarray, np.ndarray]:
        """The instance that each detection claims, -1 for a new one, and how well it fits."""
        if not memory or not len(detections):
            return np.full(len(detections), -1), np.zeros(len(detections))
        overlaps = pairwise_overlap(
            self.overlap,
            detections.bboxes,
            detections.masks,
            np.stack([seen.bbox for seen in memory]),
            [seen.mask for seen in memory],
        )
        same_class = detections.labels[:, None] == [seen.label for seen in memory]
        fits = OVERLAP_WEIGHT * overlaps + CLASS_WEIGHT * same_class
        fits += np.log(detections.scores)[:, None]
        rows, best = np.arange(len(detections)), fits.argmax(1)
        known = same_class[rows, best] & (overlaps[rows, best] >= self.min_iou)
        return np.where(known, best, -1), fits[rows, best]

    @staticmethod
    def _remember(state: IoUPlusState, detections: Detections, ids: np.ndarray) -> None:
        memory = {seen.id: seen for seen in state.memory}
        for row in np.flatnonzero(ids >= 0):
            memory[ids[row]] = Remembered(
                int(ids[row]),
                state.num_frames,
                detections.bboxes[row],
                detections.masks[row],
                int(detections.labels[row]),
            )
        state.memory = list(memory.values())
