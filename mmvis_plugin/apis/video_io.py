"""Frame-by-frame reading and writing of videos in bounded memory."""

import os
import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
DEFAULT_FOLDER_FPS = Fraction(10)
DEFAULT_CAMERA_FPS = Fraction(30)
H264_ENCODERS = {"libx264": {"preset": "veryfast", "crf": "20"}, "libopenh264": {}}
BT709 = 1  # the number ITU-T H.273 gives to BT.709 primaries, transfer and matrix
LIMITED_RANGE = 1


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file and the frame."""


class FrameTiming(NamedTuple):
    """When a frame is shown: both in seconds, ``start`` counted from the first frame."""

    start: Fraction
    duration: Fraction


class _Frame(NamedTuple):
    image: np.ndarray
    timing: FrameTiming
    name: str


class VideoReader:
    """Frames of a video file, a folder of images or a camera, one at a time.

    The reader is an iterator (it is read once) and a context manager. It opens the source and
    decodes the first frame when it is made, so that a bad source fails before any other work.
    Frames stored rotated or mirrored (phone videos) come out as players show them.

    Args:
        source: Path of a video file or of a folder of images (taken in natural order, so
            ``2.jpg`` comes before ``10.jpg``), or a camera index (an int or a string of digits).
        fps: Frame rate for a folder, 10 if not given. Other sources know their own.

    Attributes:
        fps (Fraction): Frames per second, the average for a variable-rate file.
        size (tuple[int, int]): Width and height of every frame in pixels, after rotation.
        num_frames (int | None): Number of frames; for a file what its header declares; None
            for a camera and for files that do not say.
        is_camera (bool): Whether the source is a camera, which has no end of its own.
        timing (FrameTiming | None): Timing of the frame that was read last.

    Yields:
        np.ndarray: Frame of shape (H, W, 3), uint8, BGR.

    Raises:
        FileNotFoundError: If the path does not exist.
        VideoError: If the source cannot be opened or decoded, has no frame, or if a frame's
            size differs from that of the first.

    Examples:
        >>> with VideoReader("street.mp4") as reader:
        ...     for frame in reader:
        ...         print(frame.shape, float(reader.timing.start))
    """

    def __init__(self, source: str | os.PathLike | int, fps: Fraction | float | None = None):
        self.source = str(source)
        self.is_camera = self.source.isdecimal()
        path = Path(self.source)
        if self.is_camera:
            frames, self.fps, self.num_frames = _open_camera(int(self.source))
        elif path.is_dir():
            frames, self.fps, self.num_frames = _open_folder(path, fps or DEFAULT_FOLDER_FPS)
        elif path.exists():
            frames, self.fps, self.num_frames = _open_file(path)
        else:
            raise FileNotFoundError(f"{path}: no such video file or folder of frames")
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{self.source}: there is no frame in it")
        self.size = first.image.shape[1::-1]
        self.timing: FrameTiming | None = None
        self._source_frames = frames
        self._frames = chain([first], frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        frame = next(self._frames)
        if frame.image.shape[1::-1] != self.size:
            width, height = frame.image.shape[1::-1]
            raise VideoError(
                f"{frame.name} is {width} x {height} pixels, but the first frame is "
                f"{self.size[0]} x {self.size[1]}: all frames must have one size"
            )
        self.timing = frame.timing
        return frame.image

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Release the file or the camera; the reader then yields no more frames."""
        self._source_frames.close()
        self._frames = iter(())


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
        self.fps = Fraction(fps).limit_denominator(1_000_000)
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
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        # The index goes in front of the frames, so that a browser can start to play at once.
        self._container = av.open(
            str(self._temporary), "w", format="mp4", options={"movflags": "+faststart"}
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
        timing = timing or FrameTiming(self.num_frames / self.fps, 1 / self.fps)
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
        for packet in self._stream.encode(picture):
            # The container takes the last frame's duration from here.
            packet.duration = self._pending_durations.popleft()
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file and give it its name.

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
            self._container.close()
        except BaseException:
            self.discard()
            raise
        self._container = None
        os.replace(self._temporary, self.path)

    def discard(self) -> None:
        """Give the video up and remove the unfinished file."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            container.close()
        finally:
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, exc_type, exc_value, traceback) -> None:
        if exc_type is None:
            self.close()
        else:
            self.discard()


def _open_camera(index: int) -> tuple[Iterator[_Frame], Fraction, None]:
    camera = cv2.VideoCapture(index)
    if not camera.isOpened():
        raise VideoError(f"camera {index}: it cannot be opened; is it connected and free?")
    reported = camera.get(cv2.CAP_PROP_FPS)
    fps = Fraction(reported).limit_denominator(1001) if reported > 0 else DEFAULT_CAMERA_FPS
    return _read_camera(camera, index, fps), fps, None


def _read_camera(camera: cv2.VideoCapture, index: int, fps: Fraction) -> Iterator[_Frame]:
    try:
        number = 0
        while True:
            ok, image = camera.read()
            if not ok:
                return
            timing = FrameTiming(number / fps, 1 / fps)
            yield _Frame(image, timing, f"camera {index}, frame {number}")
            number += 1
    finally:
        camera.release()


def _open_folder(folder: Path, fps) -> tuple[Iterator[_Frame], Fraction, int]:
    if fps <= 0:
        raise ValueError(f"{folder}: the frame rate must be positive, got {fps}")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise VideoError(
            f"{folder}: the folder has no images ({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    fps = Fraction(fps).limit_denominator(1_000_000)
    return _read_folder(sorted(paths, key=_natural_key), fps), fps, len(paths)


def _read_folder(paths: list[Path], fps: Fraction) -> Iterator[_Frame]:
    for number, path in enumerate(paths):
        data = np.fromfile(path, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is None:
            raise VideoError(
                f"{path}: the image cannot be decoded; it is damaged or of no known format"
            )
        yield _Frame(image, FrameTiming(number / fps, 1 / fps), str(path))


def _natural_key(path: Path) -> list[tuple[bool, int | str]]:
    """Sort key that compares runs of digits as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [(True, int(part)) if part.isdecimal() else (False, part) for part in parts]


def _open_file(path: Path) -> tuple[Iterator[_Frame], Fraction, int | None]:
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: not a video, or a damaged one ({error.strerror})") from error
    if not container.streams.video:
        container.close()
        raise VideoError(f"{path}: the file has no video stream")
    stream = container.streams.video[0]
    fps = stream.average_rate or stream.guessed_rate
    if not fps:
        container.close()
        raise VideoError(f"{path}: the file does not tell its frame rate")
    return _read_file(container, stream, path, fps), fps, stream.frames or None


def _read_file(container, stream, path: Path, fps: Fraction) -> Iterator[_Frame]:
    stream.thread_type = "AUTO"
    reformatter = VideoReformatter()
    number, first_pts = 0, None
    try:
        for frame in container.decode(stream):
            first_pts = frame.pts if first_pts is None else first_pts
            image = reformatter.reformat(frame, format="bgr24").to_ndarray()
            timing = _file_timing(frame, first_pts, number, fps)
            yield _Frame(_upright(image, frame), timing, f"{path}, frame {number}")
            number += 1
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{path}: frame {number} cannot be decoded, the file is damaged ({error.strerror})"
        ) from error
    finally:
        container.close()


def _file_timing(
    frame: av.VideoFrame, first_pts: int | None, number: int, fps: Fraction
) -> FrameTiming:
    regular = FrameTiming(number / fps, 1 / fps)
    if frame.pts is None or first_pts is None:
        return regular
    tick = frame.time_base
    told = FrameTiming((frame.pts - first_pts) * tick, (frame.duration or 0) * tick or 1 / fps)
    # Containers with coarse clocks (Matroska: 1 ms) round the times of a constant rate.
    return FrameTiming(
        *(r if abs(t - r) <= tick else t for t, r in zip(told, regular, strict=True))
    )


def _upright(image: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Apply the stream's display matrix, which maps (x, y) to (a x + c y, b x + d y)."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return image
    a, b, _, c, d, *_ = np.frombuffer(side_data, np.int32)
    if abs(c) > abs(a):
        image, flip_x, flip_y = image.swapaxes(0, 1), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


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
