"""Writing videos that players and browsers show."""

import os
from collections import deque
from fractions import Fraction
from pathlib import Path
from weakref import finalize

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mmvis_plugin.files import naming_place, temporary_path

from .containers import file_name
from .frames import FrameTiming, VideoError, as_fraction, regular_timing

H264_ENCODERS = {"libx264": {"preset": "veryfast", "crf": "20"}, "libopenh264": {}}
BT709 = 1  # the number ITU-T H.273 gives to BT.709 primaries, transfer and matrix
LIMITED_RANGE = 1


class VideoWriter:
    """Writes frames as an MP4 (H.264, yuv420p) that players and browsers show.

    The file is written under a temporary name beside ``path`` and renamed by :meth:`close`, so
    that ``path`` is never an unfinished video. As a context manager it closes the file at the
    end of the block and removes it if the block raises.

    Args:
        path: Target, ending in ``.mp4``. Missing folders are made, an existing file replaced.
        fps: Frames per second; pass a Fraction such as ``Fraction(30000, 1001)`` for rates that
            are no whole number.
        size: Width and height of the frames in pixels. H.264 with yuv420p needs even sizes: an
            odd one grows by one column or row, a copy of the last.

    Raises:
        ValueError: If ``path`` does not end in ``.mp4`` or ``fps`` or ``size`` is not positive.
        VideoError: If the installed PyAV has no H.264 encoder.

    Examples:
        >>> with VideoWriter("out.mp4", fps=25, size=(640, 480)) as writer:
        ...     for frame in frames:
        ...         writer.write(frame)
    """

    def __init__(self, path: str | os.PathLike, fps: Fraction | float, size: tuple[int, int]):
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"{self.path}: the name of the video must end in .mp4")
        if fps <= 0 or min(size) < 1:
            raise ValueError(f"{self.path}: bad frame rate {fps} or size {size}")
        self.fps = as_fraction(fps)
        self.size = tuple(size)
        self.num_frames = 0
        self._tick = _clock_tick(self.fps)
        self._last_pts = -1
        self._pending_durations: deque[int] = deque()
        self._reformatter = VideoReformatter()
        self._open()

    def _open(self) -> None:
        encoder = _h264_encoder()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = temporary_path(self.path)
        # Also of a writer that is never closed, at the latest when the interrupted program ends.
        self._remove = finalize(self, self._temporary.unlink, missing_ok=True)
        # The index goes in front of the frames, so that a browser can start to play at once.
        self._container = av.open(
            file_name(self._temporary), "w", format="mp4", options={"movflags": "+faststart"}
        )
        # Without B-frames, frames are stored in the order shown and no edit list shifts them:
        # start and duration of the stream are exact in every player.
        options = {**H264_ENCODERS[encoder], "bf": "0"}
        stream = self._container.add_stream(encoder, rate=self.fps, options=options)
        stream.width, stream.height = (side + side % 2 for side in self.size)
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = self._tick
        codec.color_range = LIMITED_RANGE
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        self._stream = stream
        try:
            self._container.start_encoding()  # makes the file: a bad folder fails here
        except (av.error.ExternalError, av.error.ArgumentError) as error:
            self.discard()
            width, height = self.size
            raise VideoError(
                f"{self.path}: H.264 cannot hold frames of {width} x {height} pixels"
            ) from error
        except BaseException:
            self.discard()
            raise

    def write(self, frame: np.ndarray, timing: FrameTiming | None = None) -> None:
        """Append a frame.

        Args:
            frame: Image of shape (H, W, 3), uint8, BGR, of the size given to the writer.
            timing: When the frame is shown, for sources of variable rate
                (:attr:`VideoReader.timing`). Without it frames follow each other at ``fps``.

        Raises:
            ValueError: If the frame has another type, shape or size.
        """
        width, height = self.size
        if frame.dtype != np.uint8 or frame.shape != (height, width, 3):
            raise ValueError(
                f"{self.path}: frame {self.num_frames} is {frame.dtype} of shape {frame.shape}, "
                f"not uint8 of shape {(height, width, 3)}"
            )
        timing = timing or regular_timing(self.num_frames, self.fps)
        picture = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(_pad_to_even(frame), format="bgr24"),
            format="yuv420p",
            dst_colorspace="ITU709",
            dst_color_range="MPEG",
        )
        # Sources with broken clocks repeat a time or step back; H.264 in MP4 may not.
        picture.pts = max(round(timing.start / self._tick), self._last_pts + 1)
        picture.time_base = self._tick
        self._last_pts = picture.pts
        self._pending_durations.append(max(round(timing.duration / self._tick), 1))
        self.num_frames += 1
        self._mux(picture)

    def _mux(self, picture: av.VideoFrame | None) -> None:
        with naming_place(self.path, self._temporary):
            for packet in self._stream.encode(picture):
                # The container takes the last frame's duration from here.
                packet.duration = self._pending_durations.popleft()
                self._container.mux(packet)

    def close(self, path: str | os.PathLike | None = None) -> None:
        """Finish the file and give it its name.

        Args:
            path: Another name for it, e.g. of a video that is not the whole one after all.

        Raises:
            VideoError: If no frame was written; nothing is left on disk then.
        """
        if self._container is None:
            return
        if self.num_frames == 0:
            self.discard()
            raise VideoError(f"{self.path}: no frame was written, so there is no video")
        try:
            self._mux(None)
            with naming_place(self.path, self._temporary):
                self._container.close()
            self._container = None
            self.path = Path(path or self.path)
            os.replace(self._temporary, self.path)
            self._remove.detach()  # the next writer to this path has the same temporary name
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Give the video up and remove the unfinished file."""
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
        finally:
            self._remove()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        if exc_type is None:
            self.close()
        else:
            self.discard()


def _pad_to_even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(frame)
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _clock_tick(fps: Fraction) -> Fraction:
    """Unit of time in which a frame at ``fps`` lasts a whole number of ticks, 1/90000 s or less."""
    return Fraction(1, fps.numerator * -(-90_000 // fps.numerator))


def _h264_encoder() -> str:
    for name in H264_ENCODERS:
        if name in av.codecs_available:
            return name
    raise VideoError(
        f"PyAV {av.__version__} has no H.264 encoder ({' or '.join(H264_ENCODERS)}): "
        "install its wheel with `pip install --force-reinstall --only-binary=av av`"
    )
