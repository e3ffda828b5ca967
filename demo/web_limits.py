"""Bounds on requests to the web page, and the models it offers; only the standard library."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MEGABYTE = 10**6


class RequestError(ValueError):
    """A request is refused; the message is for the one who asks."""


@dataclass(frozen=True)
class Limits:
    """Bounds on an upload.

    Attributes:
        megabytes: Size of the file.
        seconds: Length of the video.
        frames: Number of its frames.
        pixels: Height times width of a frame.
        stored: Megabytes of all uploads and results that are kept at a time.
    """

    megabytes: float = 50
    seconds: float = 30
    frames: int = 900
    pixels: int = 1920 * 1088
    stored: float = 2000

    def __str__(self) -> str:
        return (
            f"up to {self.megabytes:g} MB, {self.seconds:g} seconds, {self.frames} frames and "
            f"{self.pixels / 1e6:.1f} megapixels"
        )


class ModelChoice(NamedTuple):
    """A model that can be asked for: config, file or name, and checkpoint if not the shipped."""

    config: str
    checkpoint: str | None = None


def require_room(folder: Path, limits: Limits) -> None:
    """Make sure that uploads and results do not fill the disk.

    Raises:
        RequestError: If they take up what they may.
    """
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if stored > limits.stored * MEGABYTE:
        raise RequestError("The server keeps as many videos as it may: try again later.")
