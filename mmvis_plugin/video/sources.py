"""What a video can come from: a file, images, a camera, an address, arrays in memory."""

import glob
import os
import re
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import partial
from itertools import count
from numbers import Integral
from pathlib import Path

import cv2
import numpy as np

from mmvis_plugin.files import IMAGE_SUFFIXES, natural_key

from .frames import BrokenFrame, Frame, FrameTiming, Source, VideoError, check_frame, regular_timing

DEFAULT_FPS = Fraction(10)  # of images and arrays
DEFAULT_CAMERA_FPS = Fraction(30)
# Protocols whose streams have an end and can be read on from where the connection broke off.
FILE_PROTOCOLS = ("http", "https", "ftp", "file")


def is_live(source) -> bool:
    """Whether a source has no end of its own: a camera, or an address that sends live."""
    if isinstance(source, str):
        protocol = _protocol(source)
        is_stream = protocol is not None and protocol not in FILE_PROTOCOLS
        return is_stream or (source.isdecimal() and not Path(source).exists())
    return isinstance(source, Integral)


def open_source(source, fps: Fraction | None) -> tuple[str, str, Source]:
    """Open a source.

    Args:
        source: As for :class:`VideoReader`.
        fps: Frame rate of sources that have none of their own.

    Returns:
        tuple[str, str, Source]: Its description, a short name, and its frames.
    """
    if isinstance(source, str) and _protocol(source):
        return source, _name_of_address(source), _open_address(source, fps)
    if is_live(source):
        return f"camera {int(source)}", f"camera{int(source)}", _open_camera(int(source))
    if not isinstance(source, str | os.PathLike):
        return "the frames", "frames", _open_arrays(source, fps or DEFAULT_FPS)
    path = Path(source)
    if path.is_dir():
        paths = [child for child in path.iterdir() if _is_image(child)]
        return str(path), path.resolve().name, _open_images(path, paths, fps or DEFAULT_FPS)
    if path.exists():
        return str(path), path.stem, _open_file(path, fps)
    if glob.has_magic(str(path)):
        return _open_pattern(path, fps)
    raise FileNotFoundError(f"{path}: no such video file, folder or pattern of images")


def _protocol(source: str) -> str | None:
    """The protocol of an address, such as ``rtsp``; None for a path."""
    found = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", source)
    return found and found[1].lower()


def _name_of_address(address: str) -> str:
    """A name for outputs: ``street`` for ``rtsp://camera/street.mp4?user=me``."""
    place = re.sub(r"^.*://(.*@)?", "", address).partition("?")[0].rstrip("/")
    return re.sub(r"[^\w.-]", "_", place.rsplit("/", 1)[-1].rsplit(".", 1)[0]) or "stream"


def _is_image(path: Path) -> bool:
    """Whether a file is an image by its name; macOS puts a ``._`` file beside each."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("._")


def _open_file(path: Path, fps: Fraction | None) -> Source:
    from .containers import open_file  # PyAV is loaded when there is a file

    return open_file(path, fps)


def _open_address(address: str, fps: Fraction | None) -> Source:
    from .containers import open_address, open_live

    return open_live(address, fps) if is_live(address) else open_address(address, fps)


def _open_pattern(path: Path, fps: Fraction | None) -> tuple[str, str, Source]:
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    matches = [match for match in matches if not match.name.startswith("._")]
    if not matches:
        raise FileNotFoundError(f"{path}: nothing matches this pattern")
    if len(matches) == 1 and not _is_image(matches[0]):
        return open_source(matches[0], fps)
    name = path.parent.name if not glob.has_magic(path.parent.name) else ""
    return str(path), name or "frames", _open_images(path, matches, fps or DEFAULT_FPS)


def _open_camera(index: int) -> Source:
    camera = cv2.VideoCapture(index)
    if not camera.isOpened():
        raise VideoError(f"camera {index}: it cannot be opened; is it connected and free?")
    reported = camera.get(cv2.CAP_PROP_FPS)
    fps = Fraction(reported).limit_denominator(1001) if reported > 0 else DEFAULT_CAMERA_FPS
    return Source(_read_camera(camera, index, fps), fps, None)


def _read_camera(camera: cv2.VideoCapture, index: int, fps: Fraction) -> Iterator[Frame]:
    # Not by the announced rate: a camera leaves frames out when it is dark or nobody reads them.
    begin = time.monotonic_ns()
    try:
        for number in count():
            ok, image = camera.read()
            if not ok:
                return
            start = Fraction(time.monotonic_ns() - begin, 10**9)
            timing = FrameTiming(start, 1 / fps)
            yield Frame(partial(_itself, image), timing, f"camera {index}, frame {number}")
    finally:
        camera.release()


def _open_arrays(frames: Iterable[np.ndarray], fps: Fraction) -> Source:
    if not isinstance(frames, Iterable):
        raise ValueError(
            f"a {type(frames).__name__} is no source of frames: give a path, a camera index or "
            "arrays"
        )
    num_frames = len(frames) if hasattr(frames, "__len__") else None
    return Source(_read_arrays(frames, fps), fps, num_frames)


def _read_arrays(frames: Iterable[np.ndarray], fps: Fraction) -> Iterator[Frame]:
    for number, image in enumerate(frames):
        check_frame(image, number)
        yield Frame(partial(_itself, image), regular_timing(number, fps), f"frame {number}")


def _itself(image: np.ndarray) -> np.ndarray:
    return image


def _open_images(source: Path, paths: list[Path], fps: Fraction) -> Source:
    others = [path for path in paths if not _is_image(path)]
    if others:
        raise VideoError(
            f"{source}: {others[0]} is no image; a pattern stands for the images of one video, or "
            "for a single video file"
        )
    if not paths:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise VideoError(f"{source}: the folder has no images ({suffixes})")
    return Source(_read_images(sorted(paths, key=natural_key), fps), fps, len(paths))


def _read_images(paths: list[Path], fps: Fraction) -> Iterator[Frame]:
    for number, path in enumerate(paths):
        timing = regular_timing(number, fps)
        yield Frame(partial(_decode_image, path), timing, str(path))


def _decode_image(path: Path) -> np.ndarray:
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # of a size that cannot be: the header is damaged
        image = None
    if image is None:
        raise BrokenFrame("the image is damaged or of no known format")
    return image
