"""Folders of frames and of index images."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from mmvis_plugin.files import IMAGE_SUFFIXES, natural_key
from mmvis_plugin.ytvis.frame_files import image_size

from .records import ConversionError


def list_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Files of a folder with one of some suffixes, in natural order of their names."""
    suffixes = set(suffixes)
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]
    return sorted(files, key=lambda path: natural_key(path.name))


def list_frames(folder: Path) -> list[Path]:
    """Images of a folder in natural order of their names.

    Raises:
        ConversionError: If the folder is missing or has none, or two differ in the suffix only.
    """
    if not folder.is_dir():
        raise ConversionError(f"folder of frames {folder} does not exist")
    frames = list_files(folder, IMAGE_SUFFIXES)
    if not frames:
        raise ConversionError(f"{folder} has no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    for first, second in zip(frames, frames[1:], strict=False):
        if first.stem == second.stem:
            raise ConversionError(f"{folder}: {first.name} and {second.name} are the same frame")
    return frames


def list_folders(folder: Path) -> list[Path]:
    """Folders in a folder, in natural order of their names.

    Raises:
        ConversionError: If the folder is missing.
    """
    if not folder.is_dir():
        raise ConversionError(f"folder {folder} does not exist")
    folders = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    return sorted(folders, key=lambda path: natural_key(path.name))


def common_size(frames: Iterable[Path]) -> tuple[int, int]:
    """Height and width that all frames of a video have.

    Raises:
        ConversionError: If a frame is missing, is no image, or is of another size than the first.
    """
    size, first = None, None
    for path in frames:
        try:
            found = image_size(path)
        except FileNotFoundError as error:
            raise ConversionError(f"frame {path} does not exist") from error
        except ValueError as error:
            raise ConversionError(f"frame {path} {error}") from error
        if size is None:
            size, first = found, path
        elif found != size:
            raise ConversionError(
                f"frame {path} is {found[1]} x {found[0]} pixels, but {first.name} of the same "
                f"video is {size[1]} x {size[0]}"
            )
    return size


def relative_names(frames: Iterable[Path], root: Path) -> list[str]:
    """Names of frames relative to the folder of images, as the JSON's ``file_names`` has them.

    Raises:
        ConversionError: If a frame is not in that folder.
    """
    root = Path(os.path.abspath(root))  # not resolve(): folders are often links
    names = []
    for path in frames:
        try:
            names.append(Path(os.path.abspath(path)).relative_to(root).as_posix())
        except ValueError:
            raise ConversionError(f"frame {path} is not in the folder of images {root}") from None
    return names


def read_index_image(
    path: Path, size: tuple[int, int], modes: Collection[str], wanted: str
) -> tuple[np.ndarray, str]:
    """Read an image whose pixels are object ids.

    Args:
        path: Image file.
        size: Height and width of its frame in pixels.
        modes: Pillow's names of the kinds of images that hold ids.
        wanted: What another kind is not, for the message.

    Returns:
        tuple: The ids (H, W), integers, and the image's mode.

    Raises:
        ConversionError: If it is no image, or of another kind or size.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in modes:
                raise ConversionError(f"{path} is not {wanted} (mode {picture.mode})")
            if picture.size != size[::-1]:
                raise ConversionError(
                    f"{path} is {picture.size[0]} x {picture.size[1]} pixels, its frame "
                    f"{size[1]} x {size[0]}"
                )
            return np.asarray(picture), picture.mode
    except ConversionError:
        raise
    except Exception as error:  # Pillow's plugins raise many kinds for broken files
        raise ConversionError(f"{path} cannot be read as an image: {error}") from error
