"""What sinks share that write a folder of files."""

import os
import re
import shutil
from pathlib import Path

from mmvis_plugin.apis.stream import VideoStream

from .base import Sink


class FolderSink(Sink):
    """Base of the sinks that write files for each frame into a folder.

    Args:
        path: Target folder. One that is there already is replaced at the end if it holds nothing
            but such files.
        score_thr: Objects that score less in a frame are left out of it.

    Attributes:
        names (re.Pattern): What the names of its files look like.

    Raises:
        FileExistsError: If the folder holds other files.
    """

    names: re.Pattern

    def __init__(self, path: str | os.PathLike, score_thr: float = 0.3) -> None:
        super().__init__(path)
        self._score_thr = score_thr
        for target in (self.path, self.partial_path):
            self._check_replaceable(target)

    def _open(self, video: VideoStream) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)  # of a run that was killed
        self._temporary.mkdir()

    def _save(self, path: Path) -> None:
        self._check_replaceable(path)
        if path.exists():
            shutil.rmtree(path)
        os.replace(self._temporary, path)

    def _discard(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _check_replaceable(self, folder: Path) -> None:
        if folder.is_symlink():
            raise FileExistsError(f"{folder} is a link: name the folder that it leads to")
        if not folder.exists():
            return
        others = [file.name for file in folder.iterdir() if not self.names.fullmatch(file.name)]
        if others:
            raise FileExistsError(
                f"{folder}: the folder holds other files ({others[0]}); name one that is new or "
                "holds nothing but what this format writes"
            )
