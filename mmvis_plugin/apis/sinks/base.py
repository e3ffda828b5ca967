"""What all sinks share: the thread, the names, and what happens at the end."""

import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from av.error import FFmpegError

from mmvis_plugin.apis.results import FrameResult
from mmvis_plugin.apis.stream import VideoStream
from mmvis_plugin.files import temporary_path
from mmvis_plugin.video import Worker

QUEUE_SIZE = 8  # results that wait for a sink at most


class Sink(ABC):
    """Base class: the thread, the names, and what happens at the end.

    A subclass implements the four methods with an underscore; they run in the sink's thread,
    except that :meth:`_save` and :meth:`_discard` may run in the caller's when the thread is done.

    Args:
        path: Target. Missing folders are made, an existing file is replaced at the end.

    Attributes:
        suffix (str): What the target's name must end in; empty for a folder.
        path (Path): The target.
        written (Path | None): After :meth:`close`, what was written: the target, or
            :attr:`partial_path`, or nothing.
        num_frames (int): Frames taken so far.

    Raises:
        ValueError: If the target's name does not end as it must.
        OSError: If its folder cannot be made.
    """

    suffix = ""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.name.lower().endswith(self.suffix):
            raise ValueError(f"{self.path}: the name must end in {self.suffix}")
        if self.suffix and self.path.is_dir():
            raise ValueError(f"{self.path} is a folder")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.written: Path | None = None
        self.num_frames = 0
        self._video: VideoStream | None = None
        self._worker: Worker | None = None
        self._temporary = temporary_path(self.path)

    @property
    def partial_path(self) -> Path:
        """Name of a target that is not whole: ``tracks.partial.mp4`` for ``tracks.mp4``."""
        name = self.path.name
        cut = len(name) - len(self.suffix)
        return self.path.with_name(f"{name[:cut]}.partial{name[cut:]}")

    @abstractmethod
    def _open(self, video: VideoStream) -> None:
        """Begin to write to ``self._temporary``."""

    @abstractmethod
    def _add(self, result: FrameResult) -> None:
        """Take a frame."""

    @abstractmethod
    def _save(self, path: Path) -> None:
        """Write the rest and give the result its name."""

    @abstractmethod
    def _discard(self) -> None:
        """Close and remove what there is."""

    def write(self, result: FrameResult) -> None:
        """Take a frame; it is written beside what the caller does next.

        Raises:
            ValueError: If it is of another video than those before, or the sink is closed.
            Exception: What went wrong with an earlier frame.
        """
        if self._worker is None:
            if self._video is not None:
                raise ValueError(f"{self.path}: the sink is closed")
            self._video = result.video
            self._worker = Worker(self._take, QUEUE_SIZE, f"sink {self.path.name}")
        if result.video is not self._video:
            raise ValueError(f"{self.path}: a sink takes one video, this is another one")
        self._worker.put(result)

    def _take(self, result: FrameResult) -> None:
        with self._naming_target():
            if self.num_frames == 0:
                self._open(result.video)
            self._add(result)
        self.num_frames += 1

    @contextmanager
    def _naming_target(self) -> Iterator[None]:
        """Within this context, an error from a full disk or the like names the target."""
        try:
            yield
        except (OSError, sqlite3.Error, FFmpegError) as error:
            if str(self.path) in str(error):
                raise
            reason = getattr(error, "strerror", None) or error
            raise OSError(f"{self.path} cannot be written: {reason}") from error

    def close(self, partial: bool = False) -> None:
        """Finish the file and give it its name. Without a frame, nothing is left on disk.

        Args:
            partial: Whether frames are missing. The name also tells it if the video was stopped,
                or its results were not drawn to their end.

        Raises:
            Exception: What went wrong with a frame or the file; nothing is left on disk then.
        """
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        try:
            worker.close()
            if self.num_frames:
                is_whole = self._video.complete and not partial
                path = self.path if is_whole else self.partial_path
                with self._naming_target():
                    self._save(path)
                self.written = path
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        try:
            self.close(partial=exc_type is not None)
        except Exception as error:
            # What failed here may be what the block is left with.
            if error is not exc_value:
                raise
