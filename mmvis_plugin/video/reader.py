"""Reading a video of any kind, frame by frame, in bounded memory."""

import logging
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice

import numpy as np

from .frames import BrokenFrame, Frame, FrameTiming, VideoError, as_fraction
from .sources import is_live, open_source

MAX_WARNINGS = 3  # of frames that cannot be decoded, a video

logger = logging.getLogger(__name__)


class VideoReader:
    """Frames of a video file, images, a camera or arrays in memory, one at a time.

    The reader is an iterator (it is read once) and a context manager. It opens the source and
    decodes the first frame when it is made, so that a bad source fails before any other work.
    Frames stored rotated or mirrored (phone videos) or with pixels that are not square come out as
    players show them, the latter enlarged along one side. A frame that cannot be decoded is left
    out, with a warning; the others keep their times. A live stream that breaks off is connected
    again.

    Args:
        source: Path of a video file or of a folder of images; a pattern such as
            ``"shots/*.jpg"``; a camera index (an int or a string of digits); an address, such as
            ``rtsp://camera/street``; or arrays of shape (H, W, 3), uint8, BGR, in any iterable.
            Images are taken in natural order, so ``2.jpg`` comes before ``10.jpg``.
        fps: Frame rate of images and arrays (default: 10), and of files that do not state theirs.
            Other sources have their own.
        start: First frame of the source.
        end: Frame of the source to stop before; None for all.
        stride: Take every ``stride``-th frame.

    Attributes:
        source (str): What is read, for messages.
        name (str): Short name for outputs, e.g. ``street`` for ``street.mp4``.
        fps (Fraction): Frames per second as read, the average for a variable-rate file.
        size (tuple[int, int]): Width and height of every frame in pixels, after rotation.
        num_frames (int | None): Number of frames to be read; for a file after its header; None
            for a camera, an iterator, and files that do not say.
        expected_frames (int | None): The same, for progress: where a file does not say (Matroska,
            WebM), what its duration and rate make it, roughly.
        is_camera (bool): Whether the source has no end of its own: a camera or a live stream.
        timing (FrameTiming | None): Timing of the frame that was read last.
        num_broken (int): Frames left out so far because they cannot be decoded.

    Yields:
        np.ndarray: Frame of shape (H, W, 3), uint8, BGR.

    Raises:
        FileNotFoundError: If the path does not exist or nothing matches the pattern.
        VideoError: If the source cannot be opened, has no frame, or if a frame's size differs
            from that of the first.
        ValueError: If ``fps``, ``start``, ``end`` or ``stride`` is out of range, or a frame is
            no uint8 array of shape (H, W, 3).

    Examples:
        >>> with VideoReader("street.mp4", start=100, stride=2) as reader:
        ...     for frame in reader:
        ...         print(frame.shape, float(reader.timing.start))
    """

    def __init__(
        self,
        source: str | os.PathLike | int | Iterable[np.ndarray],
        fps: Fraction | float | None = None,
        start: int = 0,
        end: int | None = None,
        stride: int = 1,
    ):
        if fps is not None and fps <= 0:
            raise ValueError(f"the frame rate must be positive, got {fps}")
        if start < 0 or stride < 1 or (end is not None and end <= start):
            raise ValueError(
                f"start {start}, end {end}, stride {stride}: frames count from 0, the end comes "
                "after the start, the stride is 1 or more"
            )
        self.is_camera = is_live(source)
        self.source, self.name, opened = open_source(source, fps and as_fraction(fps))
        self.fps = opened.fps / stride
        part = slice(start, end, stride)
        self.num_frames = _count(part, opened.num_frames)
        self.expected_frames = _count(part, opened.num_frames or opened.expected_frames)
        self.num_broken = 0
        self.timing: FrameTiming | None = None
        self._stride = stride
        self._opened = opened.frames
        self._images = self._decode(islice(opened.frames, start, end, stride))
        try:
            self._first = next(self._images, None)
            if self._first is None:
                chosen = "" if (start, end) == (0, None) else f" from {start} to {end or 'its end'}"
                broken = f"; {self.num_broken} cannot be decoded" if self.num_broken else ""
                raise VideoError(f"{self.source}: there is no frame in it{chosen}{broken}")
        except BaseException:
            self.close()
            raise
        self.size = self._first[0].shape[1::-1]
        self._start = self._first[1].timing.start

    def _decode(self, frames: Iterable[Frame]) -> Iterator[tuple[np.ndarray, Frame]]:
        for frame in frames:
            try:
                image = frame.decode()
            except BrokenFrame as error:
                self.num_broken += 1
                if self.num_broken <= MAX_WARNINGS:
                    logger.warning("%s cannot be decoded and is left out (%s)", frame.name, error)
                continue
            yield image, frame

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        image, frame = self._first or next(self._images)
        self._first = None
        if image.shape[1::-1] != self.size:
            width, height = image.shape[1::-1]
            raise VideoError(
                f"{frame.name} is {width} x {height} pixels, but the first frame is "
                f"{self.size[0]} x {self.size[1]}: all frames must have one size"
            )
        start, duration = frame.timing
        self.timing = FrameTiming(start - self._start, duration * self._stride)
        return image

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Release the file or the camera; the reader then yields no more frames."""
        self._opened.close()
        self._first, self._images = None, iter(())


def _count(part: slice, total: int | None) -> int | None:
    return None if total is None else len(range(*part.indices(total)))
