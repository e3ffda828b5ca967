"""The paths that tracks have come along."""

from collections import deque

import cv2
import numpy as np

from .colors import ink_on, track_color


class Trails:
    """Where tracks were in the last frames of one video.

    A trail joins the centres of a track's boxes in neighbouring frames: it is broken where the
    track was absent. It tapers off with age, and stays until it has passed when the track is gone.

    Args:
        length: Frames before the current one that a trail reaches back, 1 or more.
    """

    def __init__(self, length: int):
        self._centres: deque[dict[int, tuple[float, float]]] = deque(maxlen=length + 1)

    def add(self, ids: np.ndarray, boxes: np.ndarray) -> None:
        """Take the next frame.

        Args:
            ids: (n,) identities.
            boxes: (n, 4) xyxy.
        """
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        self._centres.append(dict(zip(ids.tolist(), map(tuple, centres.tolist()), strict=True)))

    def draw(self, canvas: np.ndarray, scale: int, width: int) -> None:
        """Draw the trails that end in the frame taken last.

        Args:
            canvas: (H, W, 3) uint8 BGR, changed in place.
            scale: Pixels of the canvas per pixel of the boxes.
            width: Of the outlines in pixels; trails end three times as wide.
        """
        segments = list(zip(self._centres, list(self._centres)[1:], strict=False))
        oldest = max(self._centres.maxlen - 2, 1)
        # A rim first, so that a trail can be told from the mask of its own colour.
        for rim in (2, 0):
            for number, (before, after) in enumerate(segments, 1):
                age = len(segments) - number
                thickness = 1 + round(width * (3 - 2 * age / oldest))
                for track in before.keys() & after.keys():
                    color = track_color(track)
                    ends = (_on_canvas(frame[track], scale) for frame in (before, after))
                    shade = (ink_on(color),) * 3 if rim else color
                    cv2.line(canvas, *ends, shade, thickness + rim)


def _on_canvas(point: tuple[float, float], scale: int) -> tuple[int, int]:
    return tuple(round(scale * coordinate) for coordinate in point)
