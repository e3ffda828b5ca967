"""Video files and addresses, read with PyAV."""

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from .frames import BrokenFrame, Frame, FrameTiming, Source, VideoError, regular_timing

TIMEOUT = 10  # seconds without data after which a connection counts as broken
MAX_RECONNECTS = 5  # in a row
MAX_ASPECT = 4  # of a pixel's sides; anything beyond is a damaged header
NEW_SIDE_DATA = 16  # types that a newer FFmpeg may have added to those that PyAV knows
# FFmpeg reads on by itself where a connection to a web server broke off.
HTTP_OPTIONS = {"reconnect": "1", "reconnect_on_network_error": "1", "reconnect_delay_max": "5"}

logger = logging.getLogger(__name__)


# --- opening ----------------------------------------------------------------------------------


def open_file(path: Path, fps: Fraction | None) -> Source:
    """Open a video file.

    Args:
        path: The file.
        fps: Frame rate, used if the file does not state its own.

    Raises:
        VideoError: If it is no video, or has nothing that PyAV can decode.
    """
    try:
        container = open_container(file_name(path))
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: not a video, or a damaged one ({error.strerror})") from error
    return _source(container, str(path), fps)


def open_address(address: str, fps: Fraction | None) -> Source:
    """Open a video that a web server has; see :func:`open_file`."""
    return _source(_connect(address), address, fps)


def open_live(address: str, fps: Fraction | None) -> Source:
    """Open a live stream. If the connection breaks off it is made anew, five times in a row."""
    source = _source(_connect(address), address, fps)
    return Source(_read_live(source, address), source.fps, None)


def open_container(name: str, **options) -> av.container.InputContainer:
    """Open a file or an address with PyAV.

    Args:
        name: An absolute path (see :func:`file_name`) or an address.
        **options: For ``av.open``.

    Raises:
        av.error.FFmpegError: If it cannot be opened.
    """
    # Old cameras write titles in Latin-1.
    return av.open(name, metadata_errors="replace", **options)


def file_name(path: Path) -> str:
    """A path as FFmpeg takes it: up to a colon, as in 10:30:00.mp4, it would be a protocol."""
    return str(path.absolute())


def find_film(container: av.container.InputContainer) -> av.VideoStream | None:
    """The stream that is the film: a file may have a cover picture before it.

    Args:
        container: The file.

    Returns:
        av.VideoStream | None: None if it has no video at all.
    """

    def preference(stream) -> tuple:
        is_cover = bool(stream.disposition & Disposition.attached_pic)
        is_default = bool(stream.disposition & Disposition.default)
        return not is_cover, stream.frames != 1, is_default, -stream.index

    return max(container.streams.video, key=preference, default=None)


def _connect(address: str) -> av.container.InputContainer:
    options = HTTP_OPTIONS if address.lower().startswith("http") else {"rtsp_transport": "tcp"}
    try:
        return open_container(address, container_options=options, timeout=TIMEOUT)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{address}: it cannot be opened ({error.strerror or error})") from error


def _source(container, name: str, fps: Fraction | None) -> Source:
    try:
        stream = find_film(container)
        if stream is None:
            raise VideoError(f"{name}: the file has no video stream")
        if stream.codec_context is None:
            raise VideoError(
                f"{name}: PyAV {av.__version__} has no decoder for the video in it; convert it, "
                f"for example with `ffmpeg -i {Path(name).name} -c:v libx264 converted.mp4`"
            )
        fps = stream.average_rate or stream.guessed_rate or fps
        if not fps:
            raise VideoError(f"{name}: the file does not tell its frame rate; give it (fps)")
    except BaseException:
        container.close()
        raise
    seconds = Fraction(container.duration or 0, av.time_base)
    expected = stream.frames or round(seconds * fps)
    frames = _read(container, stream, name, fps)
    return Source(frames, fps, stream.frames or None, expected or None)


# --- reading ----------------------------------------------------------------------------------


def _read(container, stream, name: str, fps: Fraction) -> Iterator[Frame]:
    stream.thread_type = "AUTO"
    convert = partial(_convert, VideoReformatter(), _pixel_aspect(stream))
    first_pts = None
    with closing(container):
        for number, frame in enumerate(_decode_packets(container, stream)):
            where = f"{name}, frame {number}"
            if isinstance(frame, Exception):
                yield Frame(partial(_fail, frame), regular_timing(number, fps), where)
            else:
                first_pts = frame.pts if first_pts is None else first_pts
                timing = _timing(frame, first_pts, number, fps)
                yield Frame(partial(convert, frame), timing, where)


def _read_live(source: Source, address: str) -> Iterator[Frame]:
    """Frames of a live stream, on the clock of this machine: a new connection counts anew."""
    begin, number, attempts = time.monotonic_ns(), 0, 0
    while True:
        for frame in source.frames:
            try:
                image = frame.decode()
            except BrokenFrame:
                continue  # what is lost on the way is not news
            start = Fraction(time.monotonic_ns() - begin, 10**9)
            timing = FrameTiming(start, 1 / source.fps)
            yield Frame(partial(_itself, image), timing, f"{address}, frame {number}")
            number, attempts = number + 1, 0
        source, attempts = _reconnect(address, source.fps, number, attempts)


def _reconnect(address: str, fps: Fraction, number: int, attempts: int) -> tuple[Source, int]:
    """A new connection, and how many attempts have been made since the last frame."""
    for attempt in range(attempts, MAX_RECONNECTS):
        logger.warning("%s broke off after %d frames; connecting again", address, number)
        time.sleep(min(2**attempt / 4, 5))
        try:
            return _source(_connect(address), address, fps), attempt + 1
        except VideoError as error:
            reason = str(error)
    raise VideoError(
        f"{address}: the connection broke off after {number} frames, and {MAX_RECONNECTS} attempts "
        "to connect again gave no frame" + (f" ({reason})" if attempts < MAX_RECONNECTS else "")
    )


def _itself(image: np.ndarray) -> np.ndarray:
    return image


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
    raise BrokenFrame(error.strerror) from error


def _convert(reformatter: VideoReformatter, aspect: Fraction, frame: av.VideoFrame) -> np.ndarray:
    """The frame as it is shown: with square pixels, and upright."""
    width = round(frame.width * max(aspect, 1))
    height = round(frame.height / min(aspect, 1))
    try:
        image = reformatter.reformat(frame, width, height, format="bgr24").to_ndarray()
        matrix = _display_matrix(frame)
    except (av.error.FFmpegError, ValueError) as error:
        raise BrokenFrame(str(error)) from error
    return image if matrix is None else _upright(image, matrix)


def _pixel_aspect(stream: av.VideoStream) -> Fraction:
    """Width of a pixel by its height."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return aspect if aspect and 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else Fraction(1)


def _timing(frame: av.VideoFrame, first_pts: int | None, number: int, fps: Fraction) -> FrameTiming:
    regular = regular_timing(number, fps)
    if frame.pts is None or first_pts is None:
        return regular
    tick = frame.time_base
    told = FrameTiming((frame.pts - first_pts) * tick, (frame.duration or 0) * tick or 1 / fps)
    # Containers with coarse clocks (Matroska: 1 ms) round the times of a constant rate.
    return FrameTiming(
        *(r if abs(t - r) <= tick else t for t, r in zip(told, regular, strict=True))
    )


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """How the frame is turned and mirrored when it is shown, if it is: nine numbers."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV reads no side data where it does not know all
        matrix = _with_known_side_data(frame).side_data.get("DISPLAYMATRIX")
    return None if matrix is None else np.frombuffer(matrix, np.int32)


def _with_known_side_data(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame without what a camera stored with it (such as EXIF) that PyAV has no name for."""
    graph = Graph()
    last = source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
    )
    newest = max(kind.value for kind in Type)
    for number in range(newest + 1, newest + 1 + NEW_SIDE_DATA):
        delete = graph.add("sidedata", f"mode=delete:type={number}")
        last.link_to(delete)
        last = delete
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    source.push(frame)
    return sink.pull()


def _upright(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a display matrix, which maps (x, y) to (a x + c y, b x + d y)."""
    a, b, _, c, d, *_ = matrix
    if abs(c) > abs(a):
        image, flip_x, flip_y = image.swapaxes(0, 1), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])
