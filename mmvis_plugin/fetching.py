"""Downloads: resumed after a break, checked, and in place only when they are whole."""

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from .files import locked

OFFLINE = "MMVIS_OFFLINE"  # the environment variable that forbids downloads
TIMEOUT = 30  # seconds without a single byte after which a connection counts as broken
ATTEMPTS = 3  # connections to an address, each of which must bring the file further
CHUNK = 1 << 20  # bytes
GOOGLE_DRIVE = r"https://drive\.google\.com/file/d/([\w-]+)"
NETWORK_ERRORS = (OSError, HTTPException, ValueError)


class DownloadError(OSError):
    """A file could not be downloaded, or what came is not that file."""


def fetch(addresses: Sequence[str], file: str | os.PathLike, sha256: str = "") -> Path:
    """Make sure that a file is there, downloading it if it is not.

    One process downloads, others that want the same file wait for it. A download that breaks off
    is resumed, by the next call at the latest, if the server supports it. Setting the environment
    variable ``MMVIS_OFFLINE`` to 1 forbids downloads.

    Args:
        addresses: http(s) addresses of the file, which are tried in turn. A page of a file on
            Google Drive is downloaded with the package ``gdown``.
        file: Where the file is kept.
        sha256: SHA-256 of the file in hexadecimal digits, or the first few of them. Empty if it is
            not known.

    Returns:
        Path: The file.

    Raises:
        DownloadError: The file cannot be downloaded or is not the right one. The message says from
            where it can be downloaded in another way, and where to put it.
    """
    file = Path(file)
    if not file.is_file():
        try:
            with locked(file):
                if not file.is_file():  # no other process has downloaded it in the meantime
                    _download(addresses, file, sha256)
                    return file
        except PermissionError as error:
            raise DownloadError(f"cannot write {file} ({error.strerror})") from error
    if fault := find_fault(file, sha256):
        raise DownloadError(f"{file} {fault}. Delete it to download it again")
    return file


def find_fault(file: Path, sha256: str = "") -> str | None:
    """What is wrong with a downloaded file, as the end of a sentence; None if nothing is.

    Args:
        file: The file.
        sha256: As for :func:`fetch`.
    """
    with open(file, "rb") as opened:
        if opened.read(100).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return "is a web page, not the file"
    if not sha256 or (found := _sha256(file)).startswith(sha256.lower()):
        return None
    return f"is damaged or another file: its SHA-256 is {found}, but should begin with {sha256}"


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(addresses: Sequence[str], file: Path, sha256: str) -> None:
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        reason = f"{OFFLINE} is set"
        raise DownloadError(f"cannot download {addresses[0]} ({reason}). {_by_hand(file)}")
    reasons = []
    for address in addresses:
        partial = file.with_name(f".{file.name}.part")
        try:
            _receive_all(address, partial)
            _tag_file(partial).unlink(missing_ok=True)
            if fault := find_fault(partial, sha256):
                partial.unlink()
                raise ValueError(f"what it gives {fault}")
        except DownloadError as error:  # of this machine: another address does not help
            raise DownloadError(f"cannot download {address} ({error})") from error
        except NETWORK_ERRORS as error:
            reasons.append(f"{address} ({_reason(error)})")
            cause = error
        else:
            os.replace(partial, file)
            return
    raise DownloadError(f"cannot download {' nor '.join(reasons)}. {_by_hand(file)}") from cause


def _reason(error: Exception) -> str:
    is_wrapped = isinstance(error, URLError) and not isinstance(error, HTTPError)
    return str(error.reason if is_wrapped else error) or type(error).__name__


def _by_hand(file: Path) -> str:
    return f"Download it elsewhere, save it as {file}, and run the same command again"


def _receive_all(address: str, partial: Path) -> None:
    """Download a file to a path, beginning where an earlier download of it ended."""
    if found := re.match(GOOGLE_DRIVE, address):
        return _receive_from_google_drive(found[1], partial)
    for attempt in range(ATTEMPTS):
        before = _size(partial)
        try:
            return _receive(address, partial)
        except (ConnectionError, TimeoutError):
            if attempt + 1 == ATTEMPTS or _size(partial) <= before:
                raise


def _receive(address: str, partial: Path) -> None:
    tag_file = _tag_file(partial)
    tag = tag_file.read_text() if tag_file.is_file() else ""
    start = _size(partial) if tag else 0
    with _connect(address, start, tag) as source:
        if source.status != 206:  # from the beginning: the file is another one, or cannot be cut
            start = 0
        if source.headers.get_content_type() == "text/html":
            raise ValueError("it gives a web page, not the file")
        length = source.headers.get("Content-Length")  # not every server states it
        size = start + int(length) if length else None
        _require_room(partial.parent, size - start if size else 0)
        tag_file.write_text(_tag(source))
        _copy(source, partial, start, size)
    if size and _size(partial) < size:
        raise ConnectionError(f"the connection ended after {_size(partial)} of {size} bytes")


def _connect(address: str, start: int, tag: str) -> HTTPResponse:
    """Open an address; what is there already is left out if the file is still the same."""
    headers = {"User-Agent": "mmvis_plugin"}
    part = {"Range": f"bytes={start}-", "If-Range": tag} if start else {}
    try:
        return urlopen(Request(address, headers=headers | part), timeout=TIMEOUT)
    except HTTPError as error:
        if not (part and error.code == 416):  # there is nothing behind what is there already
            raise
    return urlopen(Request(address, headers=headers), timeout=TIMEOUT)


def _tag_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.tag")


def _tag(source: HTTPResponse) -> str:
    """What tells one version of a file from another; empty where its parts must not be joined."""
    tag = source.headers.get("ETag", "")
    return source.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag


def _copy(source: HTTPResponse, partial: Path, start: int, size: int | None) -> None:
    bar = tqdm(
        desc=partial.name.removeprefix(".").removesuffix(".part"),
        initial=start,
        total=size,
        unit="B",
        unit_scale=True,
    )
    with bar, open(partial, "ab" if start else "wb") as target:
        while chunk := source.read(CHUNK):
            try:
                target.write(chunk)
                target.flush()
            except OSError as error:
                raise DownloadError(f"cannot write {partial}: {error.strerror}") from error
            bar.update(len(chunk))


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DownloadError(
            f"it has {size / 1e6:,.0f} MB, and only {free / 1e6:,.0f} MB are free in {folder}"
        )


def _receive_from_google_drive(number: str, partial: Path) -> None:
    try:
        import gdown
    except ModuleNotFoundError as error:
        raise ValueError(
            "downloads from Google Drive need gdown: pip install 'mmvis-plugin[drive]'"
        ) from error
    try:
        gdown.download(id=number, output=str(partial), resume=True)
    except Exception as error:  # of gdown and of the libraries below it
        raise ConnectionError(" ".join(str(error).split()) or type(error).__name__) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
