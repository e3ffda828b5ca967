"""Frame-by-frame reading and writing of videos in bounded memory."""

import glob
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from functools import partial
from itertools import count, islice
from numbers import Integral
from pathlib import Path
from typing import NamedTuple
from weakref import finalize

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from mmvis_plugin.files import IMAGE_SUFFIXES, natural_key

DEFAULT_FPS = Fraction(10)  # of images and arrays, which do not tell theirs
DEFAULT_CAMERA_FPS = Fraction(30)
H264_ENCODERS = {"libx264": {"preset": "veryfast", "crf": "20"}, "libopenh264": {}}
BT709 = 1  # the number ITU-T H.273 gives to BT.709 primaries, transfer and matrix
LIMITED_RANGE = 1
MAX_WARNINGS = 3  # of frames that cannot be decoded, a video

logger = logging.getLogger(__name__)


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file and the frame."""


class FrameTiming(NamedTuple):
    """When a frame is shown: both in seconds, ``start`` counted from the first frame."""

    start: Fraction
    duration: Fraction


class _Frame(NamedTuple):
    """A frame that is decoded, or converted at least, only if it is wanted."""

    decode: Callable[[], np.ndarray]
    timing: FrameTiming
    name: str


class _Source(NamedTuple):
    frames: Generator[_Frame, None, None]
    fps: Fraction
    num_frames: int | None
    expected_frames: int | None = None  # of a file that tells its duration and not the number


class _BrokenFrame(Exception):
    """One frame cannot be decoded; those after it may well."""


class VideoReader:
    """Frames of a video file, images, a camera or arrays in memory, one at a time.

    The reader is an iterator (it is read once) and a context manager. It opens the source and
    decodes the first frame when it is made, so that a bad source fails before any other work.
    Frames stored rotated or mirrored (phone videos) come out as players show them. A frame that
    cannot be decoded is left out, with a warning; the others keep their times.

    Args:
        source: Path of a video file or of a folder of images; a pattern such as
            ``"shots/*.jpg"``; a camera index (an int or a string of digits); or arrays of shape
            (H, W, 3), uint8, BGR, in any iterable. Images are taken in natural order, so
            ``2.jpg`` comes before ``10.jpg``.
        fps: Frame rate of images and arrays, 10 if not given, and of files that do not tell
            theirs. Other sources know their own.
        start: Frame of the source to begin with.
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
        is_camera (bool): Whether the source is a camera, which has no end of its own.
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
        self.is_camera = _is_camera(source)
        self.source, self.name, opened = _open_source(source, fps and _as_fraction(fps))
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

    def _decode(self, frames: Iterable[_Frame]) -> Iterator[tuple[np.ndarray, _Frame]]:
        for frame in frames:
            try:
                image = frame.decode()
            except _BrokenFrame as error:
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
        self.fps = _as_fraction(fps)
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
        # Also of a writer that is never closed, at the latest when the interrupted program ends.
        self._remove = finalize(self, self._temporary.unlink, missing_ok=True)
        # The index goes in front of the frames, so that a browser can start to play at once.
        self._container = av.open(
            _no_address(self._temporary), "w", format="mp4", options={"movflags": "+faststart"}
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


def check_frame(frame: np.ndarray, number: int) -> None:
    """Make sure that a frame is one.

    Raises:
        ValueError: If it is not a uint8 array of shape (H, W, 3); the message has its number.
    """
    is_array = isinstance(frame, np.ndarray)
    if not is_array or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        found = f"{frame.dtype} of shape {frame.shape}" if is_array else type(frame).__name__
        raise ValueError(f"frame {number} is {found}, not a uint8 array of shape (H, W, 3)")


def _count(part: slice, total: int | None) -> int | None:
    return None if total is None else len(range(*part.indices(total)))


def _as_fraction(fps: Fraction | float) -> Fraction:
    return Fraction(fps).limit_denominator(1_000_000)


# --- sources ----------------------------------------------------------------------------------


def _is_camera(source) -> bool:
    if isinstance(source, str):
        return source.isdecimal() and not Path(source).exists()
    return isinstance(source, Integral)


def _open_source(source, fps: Fraction | None) -> tuple[str, str, _Source]:
    """The source's description, its short name, and its frames."""
    if _is_camera(source):
        return f"camera {int(source)}", f"camera{int(source)}", _open_camera(int(source))
    if not isinstance(source, str | os.PathLike):
        return "the frames", "frames", _open_arrays(source, fps or DEFAULT_FPS)
    path = Path(source)
    if path.is_dir():
        paths = [child for child in path.iterdir() if child.suffix.lower() in IMAGE_SUFFIXES]
        return str(path), path.resolve().name, _open_images(path, paths, fps or DEFAULT_FPS)
    if path.exists():
        return str(path), path.stem, _open_file(path, fps)
    if glob.has_magic(str(path)):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        if len(matches) == 1 and matches[0].suffix.lower() not in IMAGE_SUFFIXES:
            return _open_source(matches[0], fps)
        if not matches:
            raise FileNotFoundError(f"{path}: nothing matches this pattern")
        name = path.parent.name if not glob.has_magic(path.parent.name) else ""
        return str(path), name or "frames", _open_images(path, matches, fps or DEFAULT_FPS)
    raise FileNotFoundError(f"{path}: no such video file, folder or pattern of images")


def _open_camera(index: int) -> _Source:
    camera = cv2.VideoCapture(index)
    if not camera.isOpened():
        raise VideoError(f"camera {index}: it cannot be opened; is it connected and free?")
    reported = camera.get(cv2.CAP_PROP_FPS)
    fps = Fraction(reported).limit_denominator(1001) if reported > 0 else DEFAULT_CAMERA_FPS
    return _Source(_read_camera(camera, index, fps), fps, None)


def _read_camera(camera: cv2.VideoCapture, index: int, fps: Fraction) -> Iterator[_Frame]:
    # Not by the announced rate: a camera leaves frames out when it is dark or nobody reads them.
    begin = time.monotonic_ns()
    try:
        for number in count():
            ok, image = camera.read()
            if not ok:
                return
            start = Fraction(time.monotonic_ns() - begin, 10**9)
            timing = FrameTiming(start, 1 / fps)
            yield _Frame(partial(_itself, image), timing, f"camera {index}, frame {number}")
    finally:
        camera.release()


def _open_arrays(frames: Iterable[np.ndarray], fps: Fraction) -> _Source:
    if not isinstance(frames, Iterable):
        raise ValueError(
            f"a {type(frames).__name__} is no source of frames: give a path, a camera index or "
            "arrays"
        )
    num_frames = len(frames) if hasattr(frames, "__len__") else None
    return _Source(_read_arrays(frames, fps), fps, num_frames)


def _read_arrays(frames: Iterable[np.ndarray], fps: Fraction) -> Iterator[_Frame]:
    for number, image in enumerate(frames):
        check_frame(image, number)
        yield _Frame(partial(_itself, image), FrameTiming(number / fps, 1 / fps), f"frame {number}")


def _itself(image: np.ndarray) -> np.ndarray:
    return image


def _open_images(source: Path, paths: list[Path], fps: Fraction) -> _Source:
    others = [path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES]
    if others:
        raise VideoError(
            f"{source}: {others[0]} is no image; a pattern stands for the images of one video, or "
            "for a single video file"
        )
    if not paths:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise VideoError(f"{source}: the folder has no images ({suffixes})")
    return _Source(_read_images(sorted(paths, key=natural_key), fps), fps, len(paths))


def _read_images(paths: list[Path], fps: Fraction) -> Iterator[_Frame]:
    for number, path in enumerate(paths):
        timing = FrameTiming(number / fps, 1 / fps)
        yield _Frame(partial(_decode_image, path), timing, str(path))


def _decode_image(path: Path) -> np.ndarray:
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # of a size that cannot be: the header is damaged
        image = None
    if image is None:
        raise _BrokenFrame("the image is damaged or of no known format")
    return image


def _open_file(path: Path, fps: Fraction | None) -> _Source:
    try:
        container = av.open(_no_address(path))
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: not a video, or a damaged one ({error.strerror})") from error
    try:
        if not container.streams.video:
            raise VideoError(f"{path}: the file has no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise VideoError(
                f"{path}: PyAV {av.__version__} has no decoder for the video in it; convert it, "
                f"for example with `ffmpeg -i {path.name} -c:v libx264 converted.mp4`"
            )
        fps = stream.average_rate or stream.guessed_rate or fps
        if not fps:
            raise VideoError(f"{path}: the file does not tell its frame rate; give it (fps)")
    except BaseException:
        container.close()
        raise
    seconds = Fraction(container.duration or 0, av.time_base)
    expected = stream.frames or round(seconds * fps)
    frames = _read_file(container, stream, path, fps)
    return _Source(frames, fps, stream.frames or None, expected or None)


def _no_address(path: Path) -> str:
    """A path as FFmpeg takes it: up to a colon, as in 10:30:00.mp4, it would be a protocol."""
    return str(path.absolute())


def _read_file(container, stream, path: Path, fps: Fraction) -> Iterator[_Frame]:
    stream.thread_type = "AUTO"
    reformatter = VideoReformatter()
    number, first_pts = 0, None
    try:
        for frame in _decode_packets(container, stream):
            name = f"{path}, frame {number}"
            if isinstance(frame, Exception):
                timing = FrameTiming(number / fps, 1 / fps)
                yield _Frame(partial(_fail, frame), timing, name)
            else:
                first_pts = frame.pts if first_pts is None else first_pts
                timing = _file_timing(frame, first_pts, number, fps)
                yield _Frame(partial(_convert, reformatter, frame), timing, name)
            number += 1
    finally:
        container.close()


def _decode_packets(container, stream) -> Iterator[av.VideoFrame | av.error.FFmpegError]:
    """Decoded frames, and an error in the place of each packet that cannot be decoded."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:  # the file itself is cut off or damaged here
            yield error
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            yield error
        else:
            yield from frames


def _fail(error: av.error.FFmpegError) -> np.ndarray:
    raise _BrokenFrame(error.strerror) from error


def _convert(reformatter: VideoReformatter, frame: av.VideoFrame) -> np.ndarray:
    return _upright(reformatter.reformat(frame, format="bgr24").to_ndarray(), frame)


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
