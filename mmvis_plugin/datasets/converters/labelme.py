"""LabelMe's JSON files, one a frame, to the official YouTube-VIS JSON.

A file has ``imagePath`` (relative to itself), ``imageHeight``, ``imageWidth`` and ``shapes``; a
shape has ``label``, ``points``, ``shape_type`` and ``group_id``. As in LabelMe's own converters an
object is a label with a ``group_id``: shapes that share both are one object, in a frame (its
parts) and over the frames (its identity). Shapes are drawn as LabelMe draws them, with Pillow.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image, ImageDraw

from mmvis_plugin.files import IMAGE_SUFFIXES, natural_key

from .builder import (
    Conversion,
    ConversionError,
    Progress,
    YTVISBuilder,
    check_coordinates,
    encode_mask,
    no_progress,
    read_json,
    require,
)
from .frames import common_size, list_files, relative_names

WITHOUT_AREA = ("line", "linestrip", "point", "points")
NOT_OBJECTS = ("_background_", "__ignore__")  # labels that LabelMe's converters give no class
NUM_POINTS = dict(circle=2, rectangle=2, mask=2, oriented_rectangle=4)


def convert_labelme(
    labels: str | os.PathLike,
    images: str | os.PathLike | None = None,
    classes: Sequence[str] | None = None,
    ungrouped: str = "refuse",
    unlabelled: str = "drop",
    progress: Progress = no_progress,
) -> Conversion:
    """Convert LabelMe annotations; every folder with LabelMe files is a video.

    Args:
        labels: Folder of the videos' folders (or of one video's files).
        images: Folder that ``file_names`` are to be relative to; ``labels`` by default.
        classes: Labels in the order of their category ids; all, by name, by default.
        ungrouped: What a shape without ``group_id`` is: 'refuse', or 'label' for the one object of
            its label in the video.
        unlabelled: What an image without a LabelMe file is: 'drop' leaves it out, as nothing is
            known about it; 'empty' takes it for a frame without objects.
        progress: Shows progress over the videos.

    Returns:
        Conversion: The official JSON, frames in natural order of their names.

    Raises:
        ConversionError: If a file is malformed, an image is missing or of another size; the
            message names the file and the shape.
        OSError: If a file cannot be read.
    """
    if ungrouped not in ("refuse", "label") or unlabelled not in ("drop", "empty"):
        raise ValueError(f"unknown choice {ungrouped!r} or {unlabelled!r}")
    labels = Path(labels)
    builder = YTVISBuilder("LabelMe", classes)
    folders = {path.parent for path in labels.rglob("*.json") if path.name[0] != "."}
    for folder in progress(sorted(folders, key=lambda path: natural_key(str(path))), "video"):
        shapes_of = _read_folder(folder)
        frames = set(shapes_of)
        images_around = {
            image
            for parent in {path.parent for path in frames}
            for image in list_files(parent, IMAGE_SUFFIXES)
        }
        if unlabelled == "empty":
            frames |= images_around
        builder.left_out["images without a LabelMe file"] += len(images_around - frames)
        frames = sorted(frames, key=lambda path: natural_key(str(path)))
        height, width = common_size(frames)
        names = relative_names(frames, Path(images or labels))
        video_id = builder.add_video(names, height, width)
        objects = defaultdict(dict)
        for index, frame in enumerate(frames):
            if frame not in shapes_of:
                continue
            path, declared, shapes = shapes_of[frame]
            if any(d not in (None, s) for d, s in zip(declared, (height, width), strict=True)):
                raise ConversionError(
                    f"{path}: imageHeight and imageWidth are {declared[0]} and {declared[1]}, but "
                    f"{frame.name} is {width} pixels wide and {height} high"
                )
            for key, mask in _draw_frame(path, shapes, height, width, ungrouped, builder).items():
                objects[key][index] = encode_mask(mask)
        for (label, _), masks in objects.items():
            builder.add_track(video_id, label, masks)
    return builder.build()


def _read_folder(folder: Path) -> dict[Path, tuple[Path, tuple, list]]:
    """Image path to LabelMe file, (imageHeight, imageWidth) and shapes."""
    shapes_of = {}
    for path in list_files(folder, [".json"]):
        content = read_json(path)
        require(content, dict(imagePath=str, shapes=list), str(path))
        # LabelMe on Windows writes backslashes.
        name = PureWindowsPath(content["imagePath"]).as_posix()
        image = Path(os.path.normpath(path.parent / name))
        if not image.is_file():
            raise ConversionError(f"{path}: image {image} does not exist")
        if image in shapes_of:
            raise ConversionError(f"{path}: {image} is labelled in {shapes_of[image][0]} too")
        declared = content.get("imageHeight"), content.get("imageWidth")
        shapes_of[image] = path, declared, content["shapes"]
    return shapes_of


def _draw_frame(
    path: Path, shapes: list, height: int, width: int, ungrouped: str, builder: YTVISBuilder
) -> dict[tuple[str, int | None], np.ndarray]:
    """(label, group id) to mask (height, width), bool."""
    masks = {}
    for i, shape in enumerate(shapes):
        where = f"{path}: shapes[{i}]"
        require(shape, dict(label=str, points=list), where)
        label, group = shape["label"], shape.get("group_id")
        where += f" ({label!r})"
        kind = shape.get("shape_type") or "polygon"
        if label in NOT_OBJECTS:
            builder.left_out[f"shapes labelled {label}"] += 1
            continue
        if kind in WITHOUT_AREA:
            builder.left_out[f"shapes of type {kind}, which have no area"] += 1
            continue
        if group is None and ungrouped == "refuse":
            raise ConversionError(
                f"{where} has no group_id, so that its object is unknown in other frames. Number "
                "the objects in LabelMe (field 'group id' of the label dialog), or take all shapes "
                "of a label without group_id for one object (ungrouped='label')"
            )
        if group is not None and not isinstance(group, int):
            raise ConversionError(f"{where}: group_id must be a whole number, got {group!r}")
        try:
            mask = _draw_shape(kind, shape, height, width)
        except (ValueError, TypeError) as error:
            raise ConversionError(f"{where}: {error}") from error
        masks[label, group] = masks.get((label, group), False) | mask
    return masks


def _draw_shape(kind: str, shape: dict, height: int, width: int) -> np.ndarray:
    """Mask (height, width), bool, of one shape."""
    points = np.asarray(shape["points"], float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError("points must be a list of [x, y]")
    if kind not in ("polygon", *NUM_POINTS):
        raise ValueError(f"unknown shape_type {kind!r}")
    if kind == "polygon" and len(points) < 3:
        raise ValueError(f"a polygon needs three points, got {len(points)}")
    if len(points) != NUM_POINTS.get(kind, len(points)):
        raise ValueError(f"a {kind} has {NUM_POINTS[kind]} points, got {len(points)}")
    check_coordinates(points)
    if kind == "mask":
        return _paste_mask(shape.get("mask"), points[0], height, width)
    picture = Image.new("1", (width, height))
    draw = ImageDraw.Draw(picture)
    if kind == "circle":
        center, radius = points[0], math.dist(*points)
        draw.ellipse([*(center - radius), *(center + radius)], fill=1, outline=1)
    elif kind == "rectangle":
        draw.rectangle([*points.min(axis=0), *points.max(axis=0)], fill=1, outline=1)
    else:
        draw.polygon([tuple(point) for point in points.tolist()], fill=1, outline=1)
    return np.array(picture)


def _paste_mask(text, corner: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mask (height, width) of a base64 PNG that lies with its first pixel at ``corner`` (x, y)."""
    if not isinstance(text, str):
        raise ValueError("a shape of type mask needs 'mask', a PNG in base64")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
            patch = np.asarray(picture).astype(bool)
    except Exception as error:  # Pillow's plugins raise many kinds for broken data
        raise ValueError(f"'mask' is no PNG in base64: {error}") from error
    if patch.ndim != 2:
        raise ValueError(f"'mask' must have one channel, got an image of shape {patch.shape}")
    x, y = corner.round().astype(int).tolist()
    mask = np.zeros((height, width), bool)
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + patch.shape[1], width), min(y + patch.shape[0], height)
    if left < right and top < bottom:
        mask[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]
    return mask
