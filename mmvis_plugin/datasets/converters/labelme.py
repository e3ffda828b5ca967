"""LabelMe's JSON files, one a frame, to the official YouTube-VIS JSON.

A file has ``imagePath`` (relative to itself), ``imageHeight``, ``imageWidth`` and ``shapes``; a
shape has ``label``, ``points``, ``shape_type`` and ``group_id``. As in LabelMe's own converters an
object is a label with a ``group_id``: shapes that share both are one object, in a frame (its
parts) and over the frames (its identity). Shapes are drawn as LabelMe draws them, with Pillow.
X-AnyLabeling writes the same files, with four corners for every rectangle.
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mmvis_plugin.files import IMAGE_SUFFIXES, natural_key
from mmvis_plugin.ytvis.masks import check_outlines
from mmvis_plugin.ytvis.problems import show
from mmvis_plugin.ytvis.reader import Progress, no_progress

from .builder import Conversion, YTVISBuilder
from .encoding import add_mask, encode_mask
from .frames import list_files
from .records import ConversionError, listing, read_json, require, whole_number

UNGROUPED = ("refuse", "label", "number")
UNLABELLED = ("drop", "empty")
WITHOUT_AREA = ("line", "linestrip", "point", "points")
NOT_OBJECTS = ("_background_", "__ignore__")  # labels that LabelMe's converters give no class
NUM_POINTS = dict(
    circle=(2,),
    mask=(2,),
    rectangle=(2, 4),
    oriented_rectangle=(4,),
    rotation=(4,),  # these two are X-AnyLabeling's
    quadrilateral=(4,),
)
NUMBERED = re.compile(r"(.*\S)\s*[-_]\s*(\d{1,9})", re.ASCII)


class LabelFile(NamedTuple):
    """A LabelMe file: its path, (imageHeight, imageWidth), and shapes."""

    path: Path
    size: tuple
    shapes: list


def convert_labelme(
    labels: str | os.PathLike,
    images: str | os.PathLike | None = None,
    classes: Sequence[str] | None = None,
    ungrouped: str = "refuse",
    unlabelled: str = "drop",
    encoding: str | None = None,
    progress: Progress = no_progress,
) -> Conversion:
    """Convert LabelMe annotations; every folder with LabelMe files is a video.

    Args:
        labels: Folder of the videos' folders (or of one video's files). JSON files of datasets,
            such as an earlier result, are passed over.
        images: Folder that ``file_names`` are relative to; ``labels`` by default.
        classes: Labels in the order of their category ids; those that occur, by name, by default.
        ungrouped: What a shape without ``group_id`` is: 'refuse' stops; 'label' takes all of a
            label for the one object of it in the video; 'number' splits labels such as cow-1 and
            cow-2 into the class and the object's number, and takes others as 'label' does.
        unlabelled: What an image without a LabelMe file is: 'drop' leaves it out, as nothing is
            known about it; 'empty' takes it for a frame without objects.
        encoding: Encoding of the LabelMe files; UTF-8, -16 or -32 by default.
        progress: Shows progress over the videos.

    Returns:
        Conversion: The official JSON, frames in natural order of their names.

    Raises:
        ConversionError: If a file is malformed, an image is missing or of another size; the
            message names the file and the shape.
        OSError: If a file cannot be read.
    """
    if ungrouped not in UNGROUPED or unlabelled not in UNLABELLED:
        raise ValueError(f"unknown choice {ungrouped!r} or {unlabelled!r}")
    labels = Path(labels)
    builder = YTVISBuilder("LabelMe", images or labels, classes)
    folders = {path.parent for path in labels.rglob("*.json") if path.name[0] != "."}
    for folder in progress(sorted(folders, key=natural_key), "video"):
        files = _read_folder(folder, encoding, builder)
        if not files:
            continue
        around = {
            image
            for parent in {path.parent for path in files}
            for image in list_files(parent, IMAGE_SUFFIXES)
        }
        frames = set(files) | around if unlabelled == "empty" else set(files)
        builder.left_out["images without a LabelMe file"] += len(around - frames)
        frames = sorted(frames, key=natural_key)
        video = builder.add_video(frames)
        objects = defaultdict(dict)
        for index, frame in enumerate(frames):
            if frame in files:
                _add_frame(objects, index, files[frame], video, ungrouped, builder)
        for (label, _), masks in objects.items():
            builder.add_track(video, label, masks)
    conversion = builder.build(labels)
    if ungrouped == "label" and classes is None:
        conversion.notes.extend(_note_numbered(conversion.content["categories"]))
    return conversion


def _note_numbered(categories: list[dict]) -> list[str]:
    """Notes about classes such as cow-1 and cow-2, which are probably two objects of one class."""
    numbered = defaultdict(list)
    for category in categories:
        if match := NUMBERED.fullmatch(category["name"]):
            numbered[match[1]].append(category["name"])
    return [
        f"{listing(names)} became classes of their own; if they are objects of the class {name}, "
        "convert with --ungrouped number"
        for name, names in numbered.items()
        if len(names) > 1
    ]


def _read_folder(folder: Path, encoding: str | None, builder: YTVISBuilder) -> dict:
    """LabelFile by path of the image."""
    files: dict[Path, LabelFile] = {}
    for path in list_files(folder, [".json"]):
        try:
            content = read_json(path, encoding)
        except ConversionError as error:
            if isinstance(error.__cause__, UnicodeDecodeError):
                raise ConversionError(
                    f"{error}: give its encoding, such as --encoding gbk for files of Windows in "
                    "Chinese"
                ) from error
            raise
        if isinstance(content, dict) and "categories" in content and "shapes" not in content:
            builder.left_out["JSON files of datasets, not of LabelMe"] += 1
            continue
        require(content, dict(imagePath=str, shapes=list), str(path))
        image = _find_image(path, content["imagePath"])
        if image in files:
            raise ConversionError(f"{path}: {image} is labelled in {files[image].path} too")
        size = content.get("imageHeight"), content.get("imageWidth")
        files[image] = LabelFile(path, size, content["shapes"])
    return files


def _find_image(path: Path, name: str) -> Path:
    """The image of a LabelMe file; LabelMe on Windows writes backslashes between folders."""
    names = dict.fromkeys([name, PureWindowsPath(name).as_posix()])
    candidates = [Path(os.path.normpath(path.parent / name)) for name in names if "\0" not in name]
    for image in candidates:
        if image.is_file():
            return image
    raise ConversionError(f"{path}: image {str((candidates or [name])[-1])!r:.500} does not exist")


def _add_frame(
    objects: dict, index: int, file: LabelFile, video: dict, ungrouped: str, builder: YTVISBuilder
) -> None:
    """Add a frame's masks to those of the objects, by (label, group) and frame."""
    height, width = video["height"], video["width"]
    if any(d not in (None, s) for d, s in zip(file.size, (height, width), strict=True)):
        raise ConversionError(
            f"{file.path}: imageHeight and imageWidth are {show(file.size[0])} and "
            f"{show(file.size[1])}, but its image is {width} pixels wide and {height} high"
        )
    for i, shape in enumerate(file.shapes):
        where = f"{file.path}: shapes[{i}]"
        require(shape, dict(label=str, points=list), where)
        where += f" ({show(shape['label'])})"
        if not shape["label"].strip():
            raise ConversionError(f"{where}: the label is empty")
        kind = shape.get("shape_type") or "polygon"
        if shape["label"] in NOT_OBJECTS:
            builder.left_out[f"shapes labelled {shape['label']}"] += 1
        elif kind in WITHOUT_AREA:
            builder.left_out[f"shapes of type {kind}, which have no area"] += 1
        else:
            key = _identify(shape, ungrouped, where)
            try:
                mask = _draw_shape(kind, shape, height, width)
            except (ValueError, TypeError) as error:
                raise ConversionError(f"{where}: {error}") from error
            add_mask(objects[key], index, encode_mask(mask))


def _identify(shape: dict, ungrouped: str, where: str) -> tuple:
    """Class of a shape, and what tells its object from others of the class in the video."""
    label, group = shape["label"], shape.get("group_id")
    numbered = NUMBERED.fullmatch(label)
    if group is not None:
        number = whole_number(group)
        if number is None:
            raise ConversionError(f"{where}: group_id must be a whole number, got {show(group)}")
        return label, number
    if ungrouped == "refuse":
        advice = (
            f"number, which takes {show(label)} for object {numbered[2]} of the class "
            f"{show(numbered[1])}"
            if numbered
            else "label, which takes all shapes of a label for one object"
        )
        raise ConversionError(
            f"{where} has no group_id, so its object cannot be found in other frames. Number the "
            f"objects in LabelMe (field 'group id' of the label dialog), or convert with "
            f"--ungrouped {advice}"
        )
    if ungrouped == "number" and numbered:
        return numbered[1], int(numbered[2])
    return label, None


def _draw_shape(kind: str, shape: dict, height: int, width: int) -> np.ndarray:
    """Mask (height, width), bool, of one shape."""
    try:
        points = np.asarray(shape["points"], float)
    except (ValueError, TypeError):  # whose messages may be as long as the value
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError("points must be a list of [x, y]")
    if kind not in ("polygon", *NUM_POINTS):
        raise ValueError(f"unknown shape_type {show(kind)}")
    if kind == "polygon" and len(points) < 3:
        raise ValueError(f"a polygon needs three points, got {len(points)}")
    if len(points) not in NUM_POINTS.get(kind, (len(points),)):
        wanted = " or ".join(map(str, NUM_POINTS[kind]))
        raise ValueError(f"a shape of type {kind} has {wanted} points, got {len(points)}")
    if kind == "circle":
        radius = math.dist(*points)
        points = np.array([points[0] - radius, points[0] + radius])
    outline = np.resize(points, (max(len(points), 4), 2))  # there and back, if it has two corners
    check_outlines([outline.ravel().tolist()], height, width)
    if kind == "mask":
        return _paste_mask(shape.get("mask"), points[0], height, width)
    picture = Image.new("1", (width, height))
    draw = ImageDraw.Draw(picture)
    if kind == "circle":
        draw.ellipse(points.ravel().tolist(), fill=1, outline=1)
    elif len(points) == 2:
        draw.rectangle([*points.min(axis=0), *points.max(axis=0)], fill=1, outline=1)
    else:
        draw.polygon([tuple(point) for point in points.tolist()], fill=1, outline=1)
    return np.array(picture)


def _paste_mask(text, corner: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mask (height, width) of a base64 PNG whose first pixel lies at ``corner`` (x, y)."""
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
