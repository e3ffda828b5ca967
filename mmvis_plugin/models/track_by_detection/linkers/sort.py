"""SORT: a Kalman filter and overlap, from one frame to the next.

Source: Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016.
"""

from collections.abc import Sequence

import numpy as np
from mmdet.registry import TASK_UTILS
from scipy.optimize import linear_sum_assignment

from .base import Detections
from .kalman import BoxFilter, KalmanLinker, KalmanTrack, Matching


class AreaFilter(BoxFilter):
    """SORT's filter: centre, area, aspect, and velocities of all but the aspect (Section 3.2).

    The paper gives no noise, only that the first velocity is 0 and very uncertain. These values
    are in common use with this state; in pixels, whatever the size of the box.
    """

    def __init__(self) -> None:
        super().__init__()
        self._motion_mat = np.eye(7) + np.eye(7, k=4)
        self._update_mat = np.eye(4, 7)
        self.initial_noise = np.diag([10.0, 10, 10, 10, 1e4, 1e4, 1e4])
        self.motion_noise = np.diag([1, 1, 1, 1, 1e-2, 1e-2, 1e-4])
        self.measurement_noise = np.diag([1.0, 1, 10, 10])

    def measure(self, bbox: np.ndarray) -> np.ndarray:
        """(4,) what the filter observes of an (4,) xyxy box: cx, cy, area, width / height."""
        x1, y1, x2, y2 = bbox
        width, height = x2 - x1, y2 - y1
        return np.array([(x1 + x2) / 2, (y1 + y2) / 2, width * height, width / height])

    def bbox(self, mean: np.ndarray) -> np.ndarray:
        """(4,) xyxy box of the (7,) mean of a state. No area where area or aspect is below 0."""
        center, (area, aspect) = mean[:2], np.maximum(mean[2:4], 0)
        width = np.sqrt(area * aspect)
        size = np.array([width, area / width if width else 0.0])
        return np.concatenate([center - size / 2, center + size / 2])

    def initiate(self, measurement: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(7,) mean and (7, 7) covariance after the first measurement."""
        return np.concatenate([measurement, np.zeros(3)]), self.initial_noise

    def predict(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance in the next frame. An area does not shrink to 0."""
        if mean[2] + mean[6] <= 0:
            mean = np.concatenate([mean[:6], [0.0]])
        motion = self._motion_mat
        return motion @ mean, motion @ covariance @ motion.T + self.motion_noise

    def project(
        self, mean: np.ndarray, covariance: np.ndarray, bbox_score: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the measurement; the score plays no part."""
        observe = self._update_mat
        return observe @ mean, observe @ covariance @ observe.T + self.measurement_noise


@TASK_UTILS.register_module()
class SORTLinker(KalmanLinker):
    """SORT. Each detection opens a track that no track takes, whatever its score.

    A track is confirmed while it has been detected in ``min_hits`` frames in a row, and in the
    first ``min_hits`` frames of a video. Unlike in its successors, a tentative track survives a
    miss just as a confirmed one does. The result of a frame has the detection's box and mask; the
    paper's has the filter's box.

    Args:
        min_iou (float): Smallest overlap of a pair. Pairs are assigned first, for the largest sum
            of overlaps, and refused then (Section 3.3).
        max_gap (int): See :class:`KalmanLinker`. The paper's T_Lost is 1; that a track ends with
            the second miss is our reading.
        **kwargs: See :class:`KalmanLinker`.
    """

    filter = AreaFilter()

    def __init__(self, min_iou: float = 0.3, max_gap: int = 1, **kwargs) -> None:
        super().__init__(max_gap=max_gap, **kwargs)
        self.min_iou = min_iou

    def match(
        self, matching: Matching, tracks: Sequence[KalmanTrack], detections: Detections
    ) -> None:
        """The largest sum of overlaps; see :class:`KalmanLinker`."""
        overlaps = np.nan_to_num(self.overlaps(tracks, detections), nan=0.0)
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        kept = overlaps[rows, columns] >= self.min_iou
        matching.pair(rows[kept], columns[kept])

    def confirms(self, track: KalmanTrack, frame: int) -> bool:
        """Whether a track is confirmed; see :class:`KalmanLinker`."""
        return track.hits >= self.min_hits or frame < self.min_hits

    def remembers(self, track: KalmanTrack) -> bool:
        """Whether a track is looked for in the next frame."""
        return track.gap <= self.max_gap
