"""What is found in a video: objects in frames, and what their tracks are in the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pycocotools.mask as mask_utils
from mmengine.structures import InstanceData

from mmvis_plugin.video import FrameTiming

if TYPE_CHECKING:
    from .stream import VideoStream


class TrackedObject(NamedTuple):
    """One object in one frame.

    Attributes:
        id: Identity in the video, 0 or more, never reused.
        label: Class, 0-based.
        class_name: Its name.
        score: In [0, 1].
        box: x1, y1, x2, y2 in pixels of the frame.
        rle: The mask, a COCO RLE with ``size`` [H, W] and ``counts`` a str.
    """

    id: int
    label: int
    class_name: str
    score: float
    box: tuple[float, float, float, float]
    rle: dict

    def mask(self) -> np.ndarray:
        """The mask as a bool array of shape (H, W)."""
        return mask_utils.decode(self.rle).astype(bool)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(mask_utils.area(self.rle))


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was found in one frame.

    Attributes:
        video: The stream that the frame is of.
        index: Number of the frame among those read, from 0.
        image: The frame, (H, W, 3) uint8 BGR, as it was read.
        timing: When it is shown.
        instances: bboxes (n, 4), labels (n,), scores (n,), instances_id (n,) and masks (n RLEs),
            for the visualizer and the like.
    """

    video: VideoStream
    index: int
    image: np.ndarray
    timing: FrameTiming
    instances: InstanceData

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1::-1]

    @cached_property
    def tracks(self) -> list[TrackedObject]:
        """The objects of the frame."""
        found = self.instances
        return [
            TrackedObject(id_, label, self.video.classes[label], score, tuple(box), rle)
            for id_, label, score, box, rle in zip(
                found.instances_id.tolist(),
                found.labels.tolist(),
                found.scores.tolist(),
                found.bboxes.tolist(),
                found.masks,
                strict=True,
            )
        ]


def visible_tracks(result: FrameResult, score_thr: float) -> list[TrackedObject]:
    """The objects of a frame that are sure enough to be shown.

    Args:
        result: The frame.
        score_thr: Minimum score of an object in this frame, in [0, 1].

    Returns:
        list[TrackedObject]: By rising score, so that in a picture the surer one is drawn on top.
    """
    chosen = [track for track in result.tracks if track.score >= score_thr]
    return sorted(chosen, key=lambda track: track.score)


def final_tracks(
    votes: Mapping[int, Counter], video: VideoStream, every_row: bool = False
) -> list[tuple[int, int, float | None]]:
    """What tracks are in the end: what the method decided, else what most frames say.

    Where the method decides on tracks, those that it does not name are left out, whatever single
    frames take them for.

    Args:
        votes: Number of frames that list each track with each label, by id.
        video: The video, after its last result.
        every_row: A method may decide on an identity once per class. If true, each of these rows
            is a track; if false, the one with the highest score is.

    Returns:
        list[tuple[int, int, float | None]]: Id, label and score of each track, in the order of
        ``votes``; without a score where the method does not decide.
    """
    if video.tracks is None:
        # Of classes with as many frames the first in the list, as YTVISMetric decides.
        return [
            (track, max(labels, key=lambda label: (labels[label], -label)), None)
            for track, labels in votes.items()
        ]
    rows = defaultdict(list)
    names = ("scores", "instances_id", "labels")
    for score, track, label in zip(*(video.tracks[n].tolist() for n in names), strict=True):
        rows[track].append((track, label, score))
    for found in rows.values():
        found.sort(key=lambda row: -row[2])
    last = None if every_row else 1
    return [row for track in votes for row in rows[track][:last]]
