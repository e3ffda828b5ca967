"""Pictures side by side on one sheet, with captions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import pycocotools.mask as mask_utils
from mmengine.structures import InstanceData

from .labels import font_size, text_height, text_width, write_label

WHITE = (255, 255, 255)
GAP = 4  # pixels between pictures


@dataclass
class Section:
    """Pictures that belong together on a sheet.

    Attributes:
        pictures: Each (H, W, 3) uint8 BGR; all of a sheet have one size.
        captions: One a picture, short enough to stand above it.
        title: Above the section; none where it is empty.
        color: Of the title's background, blue, green, red, e.g. that of a track.
    """

    pictures: list[np.ndarray] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    title: str = ""
    color: tuple[int, int, int] = WHITE


def contact_sheet(sections: Sequence[Section], columns: int) -> np.ndarray:
    """One picture of many.

    Args:
        sections: What is on it, from the top down.
        columns: Pictures in a row at most.

    Returns:
        np.ndarray: (H, W, 3) uint8 BGR; white between the pictures.

    Raises:
        ValueError: If there is no picture, or they differ in size.
    """
    shapes = {picture.shape for section in sections for picture in section.pictures}
    if len(shapes) != 1:
        raise ValueError(f"a sheet is of pictures of one size, got {sorted(shapes) or 'none'}")
    width = shapes.pop()[1]
    columns = min(columns, max(len(section.pictures) for section in sections))
    size = caption_size(width)
    # A sheet of few small pictures is wide enough for its titles all the same.
    titles = (text_width(section.title, size) for section in sections)
    sheet_width = max(columns * (width + GAP), *titles) + GAP
    rows = []
    for section in sections:
        if section.title:
            rows.append(_title_row(section, sheet_width, size))
        for first in range(0, len(section.pictures), columns):
            chosen = slice(first, first + columns)
            pictures, captions = section.pictures[chosen], section.captions[chosen]
            rows.append(_picture_row(pictures, captions, sheet_width, size))
    return np.vstack(rows)


def _title_row(section: Section, sheet_width: int, size: int) -> np.ndarray:
    height = text_height(size)
    row = np.full((height + 2 * GAP, sheet_width, 3), 255, np.uint8)
    row[GAP : GAP + height, GAP:-GAP] = section.color
    write_label(row[:, :-GAP], section.title, (GAP, GAP), size, section.color)
    return row


def _picture_row(
    pictures: list[np.ndarray], captions: list[str], sheet_width: int, size: int
) -> np.ndarray:
    height, width = pictures[0].shape[:2]
    top = text_height(size)
    row = np.full((top + height + GAP, sheet_width, 3), 255, np.uint8)
    for column, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = GAP + column * (width + GAP)
        write_label(row[:, : left + width], caption, (left, 0), size, WHITE)
        row[top : top + height, left : left + width] = picture
    return row


def caption_size(width: int) -> int:
    """Size in pixels of the letters of captions above pictures of a width."""
    return max(font_size((width, width)), min(14, round(width / 11)))


def spread(num_frames: int, count: int) -> list[int]:
    """Numbers of up to ``count`` frames, evenly over a video, its first and last among them."""
    return np.linspace(0, num_frames - 1, min(count, num_frames)).round().astype(int).tolist()


def resize_frame(
    frame: np.ndarray, instances: InstanceData, width: int
) -> tuple[np.ndarray, InstanceData]:
    """A frame and its instances at another width, so that labels are drawn at a readable size.

    Args:
        frame: (H, W, 3) uint8.
        instances: Of the frame: ``bboxes`` (n, 4), ``masks`` (n COCO RLEs) and whatever else.
        width: New width in pixels.

    Returns:
        tuple[np.ndarray, InstanceData]: The frame, and a copy of the instances whose masks are
        arrays if the width changes.
    """
    if width == frame.shape[1]:
        return frame, instances
    scale = width / frame.shape[1]
    resized = InstanceData(**dict(instances.items()))
    resized.bboxes = instances.bboxes * scale
    picture = resize_picture(frame, width)
    size = picture.shape[1::-1]
    resized.masks = [
        cv2.resize(mask_utils.decode(mask), size, interpolation=cv2.INTER_NEAREST)
        for mask in instances.masks
    ]
    return picture, resized


def resize_picture(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture at another width, its sides in proportion."""
    if width == picture.shape[1]:
        return picture
    scale = width / picture.shape[1]
    size = width, max(1, round(picture.shape[0] * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
