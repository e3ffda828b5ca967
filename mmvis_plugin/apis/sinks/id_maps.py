"""Pictures that give each pixel the identity of its object."""

import os
import re
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from mmvis_plugin.apis.results import FrameResult, TrackedObject, visible_tracks
from mmvis_plugin.video import VideoError

from .folder import FolderSink

VOID = 255  # the index that VOS datasets keep for pixels of no verdict


class IdMapSink(FolderSink):
    """One PNG a frame, 16 bits a pixel: the track's id plus 1, 0 for the background.

    Files are named ``000000.png`` and so on. Where masks overlap the higher score is on top.
    Arguments are those of :class:`FolderSink`.
    """

    names = re.compile(r"\d{6,}\.png")

    def _add(self, result: FrameResult) -> None:
        ids = id_map(visible_tracks(result, self._score_thr), result.size)
        _, data = cv2.imencode(".png", ids)
        (self._temporary / f"{result.index:06d}.png").write_bytes(data)


class VOSSink(FolderSink):
    """One indexed PNG a frame, as in DAVIS and YouTube-VOS: ``00000.png`` and so on.

    An object's index counts from 1 in the order of first appearance, 0 is the background. 254
    objects are the most that the format holds: a further one stops with an error, and
    :class:`IdMapSink`, of 16 bits, takes its place. Where masks overlap the higher score is on top.
    Arguments are those of :class:`FolderSink`.
    """

    names = re.compile(r"\d{5,}\.png")

    def __init__(self, path: str | os.PathLike, score_thr: float = 0.3) -> None:
        super().__init__(path, score_thr)
        self._indices: dict[int, int] = {}
        self._palette = _davis_palette()

    def _add(self, result: FrameResult) -> None:
        indices = np.zeros(result.size[::-1], np.uint8)
        for track in visible_tracks(result, self._score_thr):
            index = self._indices.setdefault(track.id, len(self._indices) + 1)
            if index >= VOID:
                raise VideoError(
                    f"{self.path}: more than {VOID - 1} objects do not fit into indexed PNGs; "
                    "write id maps of 16 bits, or raise the minimum score"
                )
            indices[track.mask()] = index
        picture = Image.fromarray(indices)
        picture.putpalette(self._palette)
        picture.save(self._temporary / f"{result.index:05d}.png")


def _davis_palette() -> list[int]:
    """256 colours RGB, from the bits of the index, so that neighbours look different."""
    index = np.arange(256)
    colors = np.zeros((256, 3), np.int64)
    for place in range(8):
        for channel in range(3):
            colors[:, channel] |= (index >> channel & 1) << (7 - place)
        index = index >> 3
    return colors.ravel().tolist()


def id_map(tracks: Sequence[TrackedObject], size: tuple[int, int]) -> np.ndarray:
    """Draw tracks into one image, later ones over earlier ones.

    Args:
        tracks: Objects of one frame.
        size: Its width and height.

    Returns:
        (H, W) uint16: id plus 1, 0 for the background.

    Raises:
        VideoError: If an id does not fit into 16 bits.
    """
    ids = np.zeros(size[::-1], np.uint16)
    for track in tracks:
        if track.id >= np.iinfo(np.uint16).max:
            raise VideoError(f"track {track.id}: its id does not fit into a PNG of 16 bits")
        ids[track.mask()] = track.id + 1
    return ids
