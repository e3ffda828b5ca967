"""ByteTrack: detections of low score may continue a track, but not open one.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV
2022, Algorithm 1.
"""

from collections.abc import Sequence

import numpy as np
from mmdet.registry import TASK_UTILS

from .base import Detections
from .kalman import KalmanLinker, KalmanTrack, Matching, are_confirmed, gaps, hold_height


@TASK_UTILS.register_module()
class ByteTrackLinker(KalmanLinker):
    """ByteTrack: three assignments a frame.

    1. Detections of high score and confirmed tracks, by overlap times score.
    2. The rest of them and tentative tracks, by the same.
    3. Detections of low score and confirmed tracks that were there in the last frame, by overlap.

    Detections of high score that are left open tracks, confirmed ones in the first frame. While a
    track is missed, its height stays as it is. Rules and numbers are MMDetection's, with two
    differences: tentative tracks are predicted, too, as in the paper, and ``init_score`` counts in
    all frames, not only where nothing is tracked. The numbers were chosen for pedestrians at 30
    frames a second.

    Args:
        high_score (float): A score above it is high ...
        low_score (float): ... one above this is low, and one below is dropped, in [0, 1].
        init_score (float): A detection opens a track with a score above it, at least
            ``high_score``.
        min_iou (float): Smallest overlap times score in the first assignment ...
        min_iou_tentative (float): ... and in the second.
        min_iou_low (float): Smallest overlap in the third.
        **kwargs: See :class:`KalmanLinker`.
    """

    def __init__(
        self,
        high_score: float = 0.6,
        low_score: float = 0.1,
        init_score: float = 0.7,
        min_iou: float = 0.1,
        min_iou_tentative: float = 0.3,
        min_iou_low: float = 0.5,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.high_score = high_score
        self.low_score = low_score
        self.init_score = init_score
        self.min_iou = min_iou
        self.min_iou_tentative = min_iou_tentative
        self.min_iou_low = min_iou_low

    def match(
        self, matching: Matching, tracks: Sequence[KalmanTrack], detections: Detections
    ) -> None:
        """The three assignments; see :class:`KalmanLinker`."""
        high = detections.scores > self.high_score
        low = ~high & (detections.scores > self.low_score)
        confirmed = are_confirmed(tracks)
        overlaps = self.overlaps(tracks, detections)
        cost = 1 - overlaps * detections.scores
        matching.assign(cost, 1 - self.min_iou, confirmed, high)
        matching.assign(cost, 1 - self.min_iou_tentative, ~confirmed, high)
        present = confirmed & (gaps(tracks) == 0)
        matching.assign(1 - overlaps, 1 - self.min_iou_low, present, low)

    def opens(self, detections: Detections) -> np.ndarray:
        """(N,) bool: which detections open a track where none takes them."""
        return detections.scores > self.init_score

    def predict(self, track: KalmanTrack) -> None:
        """Move a track to the next frame."""
        hold_height(track)
        super().predict(track)

    def confirms(self, track: KalmanTrack, frame: int) -> bool:
        """Whether a track is confirmed; see :class:`KalmanLinker`."""
        return frame == 0 or super().confirms(track, frame)
