"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import logging
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

from .processes import is_running

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}

logger = logging.getLogger(__name__)


def temporary_path(path: str | os.PathLike) -> Path:
    """A hidden name beside a target, for this process to write to.

    What a process of this machine that was killed left half-written there is removed. What another
    machine left is named in the log: its process may still be writing.

    Args:
        path: Target; the name keeps its suffix.
    """
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial*"):
        found = re.fullmatch(r"(.+)\.(\d+)\.partial.*", left.name.removeprefix(f".{path.name}."))
        if found and found[1] != socket.gethostname():
            logger.warning(
                "%s was not finished by a process on %s; remove it if that process has ended",
                *(left, found[1]),
            )
        elif found and not is_running(int(found[2])):
            _remove(left)
    name = f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial{path.suffix}"
    return path.with_name(name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path that takes the place of ``path`` if all goes well.

    What goes wrong leaves an earlier file as it was, and nothing half-written.

    Args:
        path: Target; missing folders are made, an existing file is replaced. Its suffix is that of
            the temporary path, too, as libraries go by it.

    Yields:
        Path: To write to, in the target's folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with naming_place(path, temporary):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming_place(place: str | os.PathLike, temporary: Path | None = None) -> Iterator[None]:
    """Within this context, an error from a full disk names the file or folder that is written.

    Python knows the name of a file that cannot be opened, but not of one that cannot be written to.

    Args:
        place: The file or folder.
        temporary: Another name of it, which is nobody's business.
    """
    try:
        yield
    except OSError as error:
        hidden = temporary and str(temporary.absolute())
        if error.errno not in FULL or error.filename not in (None, str(temporary), hidden):
            raise
        raise OSError(f"{place} cannot be written to: {error.strerror}") from error


@contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Let only one process or thread at a time make a file; the others wait.

    Args:
        path: The file; missing folders are made. The lock is an empty hidden file beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_writable(path: str | os.PathLike) -> None:
    """Make sure that a file can be written, before the long work begins of which it is the result.

    Args:
        path: The file; missing folders are made.

    Raises:
        OSError: There is a folder of this name, or a file cannot be made in the file's folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()  # permissions do not tell all
    except OSError as error:
        raise type(error)(
            f"{path} cannot be written, no file can be made in its folder ({error.strerror}): "
            "name another file"
        ) from error


@contextmanager
def creating(folder: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary folder that becomes ``folder`` if all goes well, and is removed otherwise.

    Args:
        folder: Target, new or empty; it may be a link to such a folder.

    Yields:
        Path: A new folder to write to, beside the target.

    Raises:
        OSError: If the target is not empty or cannot be made.
    """
    folder = Path(folder).resolve()  # a link cannot be replaced by a folder
    if folder.exists():
        folder.rmdir()  # at once: where this fails, as at a mount point, nothing is written in vain
    temporary = temporary_path(folder)
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same number
    try:
        with naming_place(folder, temporary):
            temporary.mkdir(parents=True)
            yield temporary
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(data: bytes, path: str | os.PathLike) -> None:
    """Write a file; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a text file; see :func:`replacing`."""
    write_bytes(text.encode("utf-8"), path)


def write_json(content: Any, path: str | os.PathLike, indent: int | None = None) -> None:
    """Write a JSON; see :func:`replacing`.

    Args:
        content: What JSON can hold.
        path: Target.
        indent: Spaces per level, for people to read; all in one line by default.

    Raises:
        ValueError: There is a NaN or an infinity, which JSON does not have.
    """
    write_text(json.dumps(content, allow_nan=False, indent=indent), path)


def write_picture(picture: np.ndarray, path: str | os.PathLike) -> None:
    """Write a PNG; see :func:`replacing`.

    Args:
        picture: (H, W, 3) uint8 BGR.
        path: Target, ending in ``.png``.

    Raises:
        ValueError: If the name ends otherwise, or the picture cannot be stored.
    """
    import cv2
    import numpy as np

    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{path}: the name of the picture must end in .png")
    ok, data = cv2.imencode(".png", np.ascontiguousarray(picture))
    if not ok:
        raise ValueError(f"{path}: a picture of shape {picture.shape} cannot be stored as PNG")
    write_bytes(data.tobytes(), path)


def natural_key(name: str | os.PathLike) -> list[str | tuple[int, str]]:
    """Sort key that compares runs of digits as numbers, so that 2.jpg comes before 10.jpg."""
    parts = re.split(r"(\d+)", os.fspath(name))  # texts and numbers in turns
    digits = [number.lstrip("0") for number in parts[1::2]]
    parts[1::2] = [(len(number), number) for number in digits]
    return parts


def resource_root() -> Path:
    """The directory that holds ``configs/`` and ``weights/``, in a checkout as in a wheel."""
    return Path(__file__).resolve().parent
