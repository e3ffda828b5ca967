"""OC-SORT: what was observed of a track counts for more than what its filter estimates.

Source: Cao et al., "Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking",
CVPR 2023, Section 4.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mmdet.registry import TASK_UTILS

from .base import Detections
from .kalman import KalmanLinker, KalmanTrack, Matching, are_confirmed, hold_height


@dataclass
class ObservedTrack(KalmanTrack):
    """A track that keeps what was observed of it.

    Attributes:
        observations (deque): Its boxes in the last frames, (4,) xyxy, None where it was missed.
        last (np.ndarray): The last box observed.
        direction (np.ndarray): (2,) unit vector of its motion up to then; 0 while unknown.
        corrected (tuple): Mean and covariance of the filter after that box.
    """

    observations: deque = field(default_factory=deque)
    last: np.ndarray | None = None
    direction: np.ndarray = field(default_factory=lambda: np.zeros(2))
    corrected: tuple[np.ndarray, np.ndarray] | None = None


@TASK_UTILS.register_module()
class OCSORTLinker(KalmanLinker):
    """OC-SORT: three assignments a frame, of detections above ``min_score``.

    1. Confirmed tracks, by overlap times score and by direction (OCM): the cost of a
       pair grows by ``direction_weight`` times the angle between the motion of the track and the
       way from an earlier box of it to the detection, mapped from [0, pi] to [-0.5, 0.5].
    2. The rest of them and tentative tracks, by the same.
    3. The rest of these and all tracks that are left, by the overlap of the *last observed* box
       times score (OCR).

    The motion of a track leads from its box ``direction_span`` frames before its last detection to
    that; the way starts at the box as many frames before the last frame. Where one of these boxes
    is missing, or the track is too young, the direction does not count.

    A track that is found again is filtered anew from its last detection on, as if it had moved in
    a straight line to the new one (ORU). Rules that the paper leaves open are MMDetection's:
    tentative tracks are matched by themselves, tracks of the first frame are confirmed at once, and
    a missed track keeps its height. Unlike MMDetection, we predict in ORU as the paper does, update
    the filter once a detection, and predict tentative tracks; ``init_score`` counts in all frames.

    Args:
        min_score (float): Detections must have a score above it.
        init_score (float): A detection opens a track with a score above it; at least
            ``min_score``.
        min_iou (float): Smallest overlap times score of a pair, in each of the assignments.
        direction_weight (float): Of the angle. 0 leaves it out.
        direction_span (int): Frames over which a direction is measured, at least 1.
        **kwargs: See :class:`KalmanLinker`.
    """

    track_type = ObservedTrack

    def __init__(
        self,
        min_score: float = 0.3,
        init_score: float = 0.7,
        min_iou: float = 0.3,
        direction_weight: float = 0.2,
        direction_span: int = 3,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.min_score = min_score
        self.init_score = init_score
        self.min_iou = min_iou
        self.direction_weight = direction_weight
        self.direction_span = direction_span

    def match(
        self, matching: Matching, tracks: Sequence[ObservedTrack], detections: Detections
    ) -> None:
        """The three assignments; see :class:`KalmanLinker`."""
        good = detections.scores > self.min_score
        confirmed = are_confirmed(tracks)
        cost = 1 - self.overlaps(tracks, detections) * detections.scores
        cost += self.direction_weight * self.angles(tracks, detections)
        matching.assign(cost, 1 - self.min_iou, confirmed, good)
        matching.assign(cost, 1 - self.min_iou, ~confirmed, good)
        last = np.array([track.last for track in tracks])
        recovery = 1 - self.overlaps_at(last, tracks, detections) * detections.scores
        matching.assign(recovery, 1 - self.min_iou, np.ones(len(tracks), bool), good)

    def angles(self, tracks: Sequence[ObservedTrack], detections: Detections) -> np.ndarray:
        """(T, N) angles between the motion of a track and the way to a detection.

        From -0.5, the same direction, to 0.5, the opposite one; 0 where a direction is unknown.
        """
        starts = np.array([self.earlier_box(track) for track in tracks]).reshape(-1, 1, 4)
        ways = directions(starts, detections.bboxes)
        motions = np.array([track.direction for track in tracks]).reshape(-1, 1, 2)
        cosines = (ways * motions).sum(-1).clip(-1, 1)
        return np.arccos(cosines) / np.pi - 0.5

    def earlier_box(self, track: ObservedTrack) -> np.ndarray:
        """(4,) box of a track ``direction_span`` frames ago; the last one where it is missing."""
        if len(track.observations) <= self.direction_span or track.observations[0] is None:
            return track.last
        return track.observations[0]

    def opens(self, detections: Detections) -> np.ndarray:
        """(N,) bool: which detections open a track where none takes them."""
        return detections.scores > self.init_score

    def open(self, new_id: int, detection: Detections) -> ObservedTrack:
        """The track of a single detection."""
        track = super().open(new_id, detection)
        track.observations = deque(maxlen=self.direction_span + 1)
        self.observe(track, detection)
        return track

    def predict(self, track: ObservedTrack) -> None:
        """Move a track to the next frame."""
        hold_height(track)
        super().predict(track)

    def update(self, track: ObservedTrack, detection: Detections) -> None:
        """Correct a predicted track by its single detection."""
        if track.gap:
            self.refilter(track, detection.bboxes[0])
        super().update(track, detection)
        self.observe(track, detection)
        track.direction = directions(self.earlier_box(track), track.last)

    def refilter(self, track: ObservedTrack, bbox: np.ndarray) -> None:
        """Predict a track again, with boxes on a straight line where it was missed."""
        state = self.filter.predict(*track.corrected)
        for virtual in np.linspace(track.last, bbox, track.gap + 2)[1:-1]:
            state = self.filter.update(*state, self.filter.measure(virtual))
            state = self.filter.predict(*state)
        track.mean, track.covariance = state

    def observe(self, track: ObservedTrack, detection: Detections) -> None:
        """Keep the box of a single detection, and the filter's state after it."""
        track.last = detection.bboxes[0]
        track.observations.append(track.last)
        track.corrected = track.mean, track.covariance

    def miss(self, track: ObservedTrack) -> None:
        """Note that a track has no detection in the frame."""
        super().miss(track)
        track.observations.append(None)

    def confirms(self, track: ObservedTrack, frame: int) -> bool:
        """Whether a track is confirmed; see :class:`KalmanLinker`."""
        return frame == 0 or super().confirms(track, frame)


def directions(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(..., 2) unit vectors from centre to centre of (..., 4) xyxy boxes; 0 where they agree."""
    ways = (ends[..., :2] + ends[..., 2:] - starts[..., :2] - starts[..., 2:]) / 2
    return ways / (np.linalg.norm(ways, axis=-1, keepdims=True) + 1e-6)
