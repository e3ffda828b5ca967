"""SeqTracker: the chains of overlapping detections that score most, over all frames of a window."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData

from .base import Detections, Frame, LinkedFrame, Linker, LinkState
from .similarity import pairwise_overlap

Chain = list[tuple[int, int]]  # frame in the window, row of the detection


@dataclass
class HeldFrame:
    """A frame of the window.

    Attributes:
        frame (Any): What the caller wants back; None once it has it.
        detections (Detections): Of the frame.
        links (np.ndarray): (M, N) bool, which of the M detections of the frame before each of the
            N may follow.
        rivals (np.ndarray): (N, N) bool, which detections stand for one object, each for itself
            included.
        ids (np.ndarray | None): (N,) identities, -1 for none; None while they are not known.
    """

    frame: Frame
    detections: Detections
    links: np.ndarray
    rivals: np.ndarray
    ids: np.ndarray | None = None


@dataclass
class SeqState(LinkState):
    """Attributes:
    window (list[HeldFrame]): The last frames, at most as many as a window has.
    """

    window: list[HeldFrame] = field(default_factory=list)


@TASK_UTILS.register_module()
class SeqLinker(Linker):
    """The baseline "SeqTracker" of the MaskTrack R-CNN paper (Yang et al., ICCV 2019): Seq-NMS.

    Seq-NMS (Han et al., 2016) links detections of a class in consecutive frames where they overlap.
    The chain with the largest sum of scores is a track. It is taken out together with those of its
    class that overlap with it in its frames; then comes the next chain. A track's score is the mean
    of its chain.

    It looks at all frames of a video, here at those of a window. Windows share frames: a chain of
    the next window goes on with the track that has most of its detections in the shared frames.
    Windows are our addition; a video that fits in one is linked as a whole.

    Args:
        link_iou: Overlap above which a detection may follow one in the frame before, in [0, 1].
        suppress_iou: Overlap above which a detection is suppressed, in [0, 1].
        min_sum: Sum of scores that a chain must have.
        window: Frames of a window.
        shared_frames: How many of them are the last of the window before, in [1, window).
        overlap: See :class:`Linker`.

    Raises:
        ValueError: Windows do not share a frame, or bring none.
    """

    def __init__(
        self,
        link_iou: float = 0.5,
        suppress_iou: float = 0.3,
        min_sum: float = 0.1,
        window: int = 48,
        shared_frames: int = 16,
        overlap: str = "box",
    ) -> None:
        super().__init__(overlap)
        if not 1 <= shared_frames < window:
            raise ValueError(
                "windows must share at least one frame and bring at least one new: shared_frames "
                f"is {shared_frames}, window is {window}"
            )
        self.link_iou = link_iou
        self.suppress_iou = suppress_iou
        self.min_sum = min_sum
        self.window = window
        self.shared_frames = shared_frames

    def start(self) -> SeqState:
        """See :class:`Linker`."""
        return SeqState()

    def step(self, state: SeqState, detections: Detections, frame: Frame) -> list[LinkedFrame]:
        """Frames are final when their window is full; see :class:`Linker`."""
        before = state.window[-1].detections if state.window else detections.select([])
        links = self._overlaps(before, detections, self.link_iou)
        rivals = self._overlaps(detections, detections, self.suppress_iou)
        np.fill_diagonal(rivals, True)
        state.window.append(HeldFrame(frame, detections, links, rivals))
        state.num_frames += 1
        return self._close(state) if len(state.window) == self.window else []

    def finish(self, state: SeqState) -> tuple[list[LinkedFrame], InstanceData | None]:
        """The frames of the last window; see :class:`Linker`."""
        return self._close(state), None

    def _overlaps(self, some: Detections, others: Detections, min_iou: float) -> np.ndarray:
        """(M, N) bool, which detections are of one class and overlap by more than ``min_iou``."""
        overlaps = pairwise_overlap(
            self.overlap, some.bboxes, some.masks, others.bboxes, others.masks
        )
        return (overlaps > min_iou) & (some.labels[:, None] == others.labels)

    def _close(self, state: SeqState) -> list[LinkedFrame]:
        """Link the frames of the window; those without identities become final."""
        chains = find_chains(state.window, self.min_sum)
        ids = _identities(state, chains)
        new = [held for held in state.window if held.ids is None]
        for held in new:
            held.ids = np.full(len(held.detections), -1, dtype=np.int64)
        for identity, chain in zip(ids, chains, strict=True):
            for time, row in chain:
                if time >= len(state.window) - len(new):
                    state.window[time].ids[row] = identity
        linked = [(held.frame, held.ids) for held in new]
        for held in new:
            held.frame = None
        state.window = state.window[-self.shared_frames :]
        return linked


def find_chains(window: list[HeldFrame], min_sum: float) -> list[Chain]:
    """Seq-NMS: chains of detections, the one with the largest sum of scores first.

    Args:
        window: Consecutive frames.
        min_sum: Smallest sum of a chain.
    """
    free = [np.ones(len(held.detections), dtype=bool) for held in window]
    chains = []
    while any(rows.any() for rows in free):
        total, chain = _best_chain(window, free)
        if total < min_sum:
            break
        chains.append(chain)
        for time, row in chain:
            free[time] &= ~window[time].rivals[row]
    return chains


def _best_chain(window: list[HeldFrame], free: list[np.ndarray]) -> tuple[float, Chain]:
    """The chain of free detections with the largest sum of scores, by dynamic programming."""
    sums: list[np.ndarray] = []  # per frame: of the best chain that ends at each detection
    for held, rows in zip(window, free, strict=True):
        before = 0.0
        if sums and len(sums[-1]):
            before = np.where(held.links, sums[-1][:, None], 0).max(0).clip(min=0)
        sums.append(np.where(rows, held.detections.scores + before, -np.inf))
    ends = [ending.max(initial=-np.inf) for ending in sums]
    time = int(np.argmax(ends))
    chain = [(time, int(sums[time].argmax()))]
    while chain[-1][0] > 0:
        time, row = chain[-1]
        before = np.where(window[time].links[:, row], sums[time - 1], -np.inf)
        if before.max(initial=-np.inf) == -np.inf:
            break
        chain.append((time - 1, int(before.argmax())))
    return max(ends), chain[::-1]


def _identities(state: SeqState, chains: list[Chain]) -> list[int]:
    """An identity for each chain: the one of most of its detections that have one, or a new one."""
    given: set[int] = set()
    ids = []
    for chain in chains:
        known = [(state.window[time], row) for time, row in chain]
        votes = Counter(int(held.ids[row]) for held, row in known if held.ids is not None)
        free = [
            (count, -identity) for identity, count in votes.items() if identity not in {-1} | given
        ]
        ids.append(-max(free)[1] if free else int(state.new_ids(1)[0]))
        given.add(ids[-1])
    return ids
