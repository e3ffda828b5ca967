"""Pictures that give each pixel the identity of its object."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mmvis_plugin.apis.results import FrameResult, TrackedObject, visible_tracks
from mmvis_plugin.apis.stream import VideoStream
from mmvis_plugin.video import VideoError

from .base import Sink


class IdMapSink(Sink):
    """One PNG a frame, 16 bits a pixel: the track's id plus 1, 0 for the background.

    Files are named ``000000.png`` and so on. Where masks overlap the higher score is on top.

    Args:
        path: Target folder. One that is there already is replaced at the end if it holds nothing
            but such files.
        score_thr: Objects that score less in a frame are left out of it.

    Raises:
        FileExistsError: If the folder holds other files.
    """

    def __init__(self, path: str | os.PathLike, score_thr: float = 0.3):
        super().__init__(path)
        self._score_thr = score_thr
        for target in (self.path, self.partial_path):
            _check_replaceable(target)

    def _open(self, video: VideoStream) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)  # of a run that was killed
        self._temporary.mkdir()

    def _add(self, result: FrameResult) -> None:
        ids = id_map(visible_tracks(result, self._score_thr), result.size)
        _, data = cv2.imencode(".png", ids)
        (self._temporary / f"{result.index:06d}.png").write_bytes(data)

    def _save(self, path: Path) -> None:
        _check_replaceable(path)
        if path.exists():
            shutil.rmtree(path)
        os.replace(self._temporary, path)

    def _discard(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)


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


def _check_replaceable(folder: Path) -> None:
    if folder.is_symlink():
        raise FileExistsError(f"{folder} is a link: name the folder that it leads to")
    if not folder.exists():
        return
    others = [p.name for p in folder.iterdir() if not re.fullmatch(r"\d{6,}\.png", p.name)]
    if others:
        raise FileExistsError(
            f"{folder}: the folder holds other files ({others[0]}); name one that is new or holds "
            "nothing but id maps"
        )
