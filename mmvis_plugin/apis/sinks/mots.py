"""Text in the style of MOTS."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_utils

from mmvis_plugin.apis.results import FrameResult, TrackedObject, visible_tracks
from mmvis_plugin.apis.stream import VideoStream
from mmvis_plugin.ytvis.rle import encode_masks

from .base import Sink


class MOTSSink(Sink):
    """Text in the style of MOTS: ``frame id class height width rle``, one line an object.

    Frames count from 0, classes from 1 in the order of the model's class list; ``id`` is the
    track's id as it is (the class has a column, so it is not packed into the id). MOTS wants masks
    that do not overlap: pixels of several belong to the one of the highest score. The class is
    what the model says in that frame.

    Args:
        path: Target, ending in ``.txt``.
        score_thr: Objects that score less in a frame are left out of it.
    """

    suffix = ".txt"

    def __init__(self, path: str | os.PathLike, score_thr: float = 0.3):
        super().__init__(path)
        self._score_thr = score_thr
        self._file = None

    def _open(self, video: VideoStream) -> None:
        self._file = self._temporary.open("w", encoding="ascii", newline="\n")

    def _add(self, result: FrameResult) -> None:
        width, height = result.size
        tracks = visible_tracks(result, self._score_thr)
        for track, rle in zip(tracks, disjoint_masks(tracks, result.size), strict=True):
            if mask_utils.area(rle):
                fields = (result.index, track.id, track.label + 1, height, width, rle["counts"])
                self._file.write(" ".join(map(str, fields)) + "\n")

    def _save(self, path: Path) -> None:
        self._file.close()
        os.replace(self._temporary, path)

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)


def disjoint_masks(tracks: Sequence[TrackedObject], size: tuple[int, int]) -> list[dict]:
    """Masks without what later tracks cover of them.

    Args:
        tracks: N objects of one frame.
        size: Its width and height in pixels.

    Returns:
        list[dict]: N COCO RLEs with ``size`` [H, W] and ``counts`` a str, no two of which
        overlap; some may be empty.
    """
    rles = [track.rle for track in tracks]
    if len(rles) < 2 or mask_utils.area(mask_utils.merge(rles)) == mask_utils.area(rles).sum():
        return rles
    owners = np.zeros(size[::-1], np.intp)
    for number, track in enumerate(tracks, 1):
        owners[track.mask()] = number
    return encode_masks(owners == np.arange(1, len(tracks) + 1)[:, None, None])
