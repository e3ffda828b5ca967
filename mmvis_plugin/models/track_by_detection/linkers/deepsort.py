"""DeepSORT: appearance first, overlap for what is left.

Source: Wojke et al., "Simple Online and Realtime Tracking with a Deep Association Metric", ICIP
2017.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mmdet.registry import TASK_UTILS

from .base import Detections
from .kalman import KalmanLinker, KalmanTrack, Matching, are_confirmed, gaps


@dataclass
class SeenTrack(KalmanTrack):
    """A track that remembers what the object looked like.

    Attributes:
        gallery (deque): (C,) unit vectors of its last detections.
    """

    gallery: deque = field(default_factory=deque)


@TASK_UTILS.register_module()
class DeepSORTLinker(KalmanLinker):
    """DeepSORT: the matching cascade by appearance, then one assignment by overlap.

    1. For a gap of 0, 1, ... ``max_gap`` missed frames in turn: confirmed tracks with that gap, by
       the smallest cosine distance of the detection to the track's gallery (Eq. 3). Refused are
       detections that are improbable where the filter expects the track: squared Mahalanobis
       distance above 9.4877, the 0.95 quantile of chi-square with 4 degrees of freedom (Eq. 2).
       Motion plays no part in the cost itself, lambda = 0 in Eq. 5.
    2. Tentative tracks, and confirmed ones that were there in the last frame, by overlap.

    Detections that are left open tracks, whatever their score: the detector's threshold decides
    which ones there are. Tracks of the first frame are tentative, too.

    Args:
        max_distance (float): Largest cosine distance of a pair, in [0, 2]. It belongs to the
            features; 0.2 suits MobileNetV2's of ImageNet.
        min_iou (float): Smallest overlap of a pair in the second step.
        gallery_size (int): Appearances remembered of a track, the last ones.
        **kwargs: See :class:`KalmanLinker`.
    """

    needs_features = True
    track_type = SeenTrack

    def __init__(
        self, max_distance: float = 0.2, min_iou: float = 0.3, gallery_size: int = 100, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.max_distance = max_distance
        self.min_iou = min_iou
        self.gallery_size = gallery_size

    def match(
        self, matching: Matching, tracks: Sequence[SeenTrack], detections: Detections
    ) -> None:
        """The cascade and the assignment by overlap; see :class:`KalmanLinker`."""
        everything = np.ones(len(detections), bool)
        confirmed, missed = are_confirmed(tracks), gaps(tracks)
        distances = self.distances(tracks, detections)
        for gap in np.unique(missed[confirmed]):
            matching.assign(distances, self.max_distance, confirmed & (missed == gap), everything)
        cost = 1 - self.overlaps(tracks, detections)
        matching.assign(cost, 1 - self.min_iou, ~confirmed | (missed == 0), everything)

    def distances(self, tracks: Sequence[SeenTrack], detections: Detections) -> np.ndarray:
        """(T, N) cosine distances in [0, 2], NaN for pairs that are refused."""
        looks = unit_vectors(detections.features)
        measured = np.array([self.filter.measure(bbox) for bbox in detections.bboxes])
        distances = np.empty((len(tracks), len(detections)))
        for row, track in zip(distances, tracks, strict=True):
            row[:] = 1 - (np.array(track.gallery) @ looks.T).max(0)
            improbable = self.filter.gating_distance(
                track.mean, track.covariance, measured.reshape(-1, 4)
            )
            row[improbable > self.filter.gating_threshold] = np.nan
        return self.gated(distances, tracks, detections)

    def open(self, new_id: int, detection: Detections) -> SeenTrack:
        """The track of a single detection."""
        track = super().open(new_id, detection)
        track.gallery = deque(unit_vectors(detection.features), maxlen=self.gallery_size)
        return track

    def update(self, track: SeenTrack, detection: Detections) -> None:
        """Correct a predicted track by its single detection."""
        super().update(track, detection)
        track.gallery.extend(unit_vectors(detection.features))


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """(N, C) float32 of length 1; 0 stays 0."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float32)
