"""What a linker is: it gives the detections of single frames their identities.

A linker keeps nothing on itself: all it knows of a video is in the state that it hands out. The
state is plain data, masks in it are run-length encodings, and its size is bounded by the number of
objects that the linker remembers at a time, never by the length of the video.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.structures import InstanceData

from .similarity import OVERLAPS

Frame = Any  # what the caller wants back with the identities
LinkedFrame = tuple[Frame, np.ndarray]


@dataclass
class Detections:
    """The detections of one frame, in the detector's order.

    Attributes:
        bboxes (np.ndarray): (N, 4) float64, xyxy in pixels of the original frame.
        scores (np.ndarray): (N,) float64 in [0, 1].
        labels (np.ndarray): (N,) int64, 0-based.
        masks (list[dict]): N compressed COCO RLEs at the size of the original frame.
        features (np.ndarray | None): (N, C) float64, the appearance of each; None without any.
    """

    bboxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[dict]
    features: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, index: np.ndarray | Sequence[int]) -> "Detections":
        """Some of the detections.

        Args:
            index: Their rows, or (N,) bool.

        Returns:
            Detections: In the order of ``index``.
        """
        rows = np.arange(len(self))[index]
        return Detections(
            self.bboxes[rows],
            self.scores[rows],
            self.labels[rows],
            [self.masks[row] for row in rows],
            None if self.features is None else self.features[rows],
        )


@dataclass
class LinkState:
    """What a linker knows of a running video. Linkers add their own fields.

    Attributes:
        num_frames (int): Frames linked so far.
        num_ids (int): Identities given so far: 0 to ``num_ids - 1``.
    """

    num_frames: int = 0
    num_ids: int = 0

    def new_ids(self, count: int) -> np.ndarray:
        """The next ``count`` identities, (count,) int64. None is ever given twice."""
        first, self.num_ids = self.num_ids, self.num_ids + count
        return np.arange(first, self.num_ids)


class Linker(ABC):
    """Base class of linkers. They are registered in MMDetection's ``TASK_UTILS``.

    Args:
        overlap: How much two objects overlap: ``box`` IoU, ``mask`` IoU or ``box+mask``, their
            mean. See :func:`pairwise_overlap`.

    Attributes:
        needs_features (bool): Whether detections must have ``features``.

    Raises:
        ValueError: There is no such overlap.
    """

    needs_features = False

    def __init__(self, overlap: str = "box") -> None:
        if overlap not in OVERLAPS:
            raise ValueError(f"overlap is {overlap!r}; a linker knows {', '.join(OVERLAPS)}")
        self.overlap = overlap

    def start(self) -> LinkState:
        """The state of a new video."""
        return LinkState()

    @abstractmethod
    def step(self, state: LinkState, detections: Detections, frame: Frame) -> list[LinkedFrame]:
        """Take the next frame of a video. A frame without detections counts as one.

        Args:
            state: The video's state; changed in place.
            detections: Of the frame.
            frame: Comes back with the identities.

        Returns:
            list: The frames that became final, in order; none while the linker looks ahead. Each
            with (N,) int64 identities of its N detections, -1 for those that it drops.
        """

    def finish(self, state: LinkState) -> tuple[list[LinkedFrame], InstanceData | None]:
        """End a video.

        Args:
            state: Its state, after the last frame.

        Returns:
            The frames that :meth:`step` has not returned, in order, and per track
            ``instances_id``, ``labels`` and ``scores``; None if a track's class and score follow
            from its frames (majority and mean).
        """
        return [], None


class OnlineLinker(Linker):
    """Base class of linkers that look at no later frame: each frame is final at once."""

    def step(self, state: LinkState, detections: Detections, frame: Frame) -> list[LinkedFrame]:
        """Take the next frame of a video; see :class:`Linker`."""
        ids = self.link(state, detections)
        state.num_frames += 1
        return [(frame, ids)]

    @abstractmethod
    def link(self, state: LinkState, detections: Detections) -> np.ndarray:
        """Find the detections of the next frame among the tracks, or give them new identities.

        Args:
            state: The video's state; changed in place. ``num_frames`` is the frame's index.
            detections: Of the frame; possibly none.

        Returns:
            np.ndarray: (N,) int64 identities, -1 for a detection that is dropped.
        """
