"""Exports of CVAT in the format "CVAT for video 1.1", read without interpreting them."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import numpy as np

from mmvis_plugin.ytvis.masks import MAX_COORDINATE

from .records import ConversionError

XML = "annotations.xml"
NUMBERS = dict(
    box=("xtl", "ytl", "xbr", "ybr"),
    ellipse=("cx", "cy", "rx", "ry"),
    mask=("left", "top", "width", "height"),
)
WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
STEP = re.compile(r"\s*(?:step\s*=\s*(0*[1-9]\d{0,8})\s*)?", re.ASCII)
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Shape:
    """One shape of a track.

    Attributes:
        kind: 'box', 'ellipse', 'polygon' or 'mask'.
        frame: Number of the frame in the source video.
        outside: Whether the object is absent from this frame on.
        points: For a box its corners (xtl, ytl, xbr, ybr), for an ellipse (cx, cy, rx, ry), in
            pixels; for a polygon (n, 2); for a mask (left, top, width, height).
        rotation: Of boxes and ellipses around their centre, in degrees, clockwise.
        runs: For a mask the run lengths in its rectangle, row by row, the first of background.
    """

    kind: str
    frame: int
    outside: bool
    points: np.ndarray
    rotation: float = 0.0
    runs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Track:
    """A track: its shapes in order of their frames, and what tells it apart from others."""

    label: str
    group: str | None
    attributes: dict[str, set[str]]
    shapes: list[Shape]
    where: str


@dataclass(frozen=True)
class Task:
    """An XML: its frames' numbers and size (height, width), labels, tracks, what is left out."""

    path: Path
    frames: range
    size: tuple[int, int] | None
    labels: list[str]
    tracks: list[Track]
    left_out: Counter


def read_task(path: Path) -> Task:
    """Read an XML.

    Raises:
        ConversionError: If it is not an XML of this format; the message names the track.
        OSError: If the file cannot be read.
    """
    meta, tracks, left_out = None, [], Counter()
    try:
        with _open_xml(path) as file:
            for element in _children(file, path):
                if element.tag == "image":
                    raise ConversionError(
                        f"{path} has <image> elements: it was exported as 'CVAT for images', which "
                        "has no tracks; export it as 'CVAT for video 1.1'"
                    )
                if element.tag == "meta":
                    meta = _read_meta(element, path)
                elif element.tag == "track":
                    tracks.append(_read_track(element, path, left_out))
    except ConversionError:
        raise
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also of odd encodings
        raise ConversionError(f"{path} is not valid XML: {error}") from error
    if meta is None:
        raise ConversionError(f"{path} has no <meta>, which has the task's frames")
    tracks = [track for track in tracks if track.shapes]
    task = Task(path, *meta, tracks, left_out)
    for track in tracks:
        for shape in track.shapes:
            # A track may end, with a shape outside, one frame after the last.
            if shape.frame < task.frames.stop and shape.frame not in task.frames:
                raise ConversionError(
                    f"{track.where}: the task has no frame {shape.frame}; its frames are "
                    f"{task.frames.start} to {task.frames[-1]} in steps of {task.frames.step}"
                )
    return task


def _children(file: BinaryIO, path: Path) -> Iterator[ElementTree.Element]:
    """The children of the root one by one: large exports would not fit into memory."""
    parser = ElementTree.iterparse(file, events=("start", "end"))
    _, root = next(parser)
    if root.tag != "annotations":
        raise ConversionError(f"{path}: the root is <{root.tag:.60}>, not CVAT's <annotations>")
    depth = 0
    for event, element in parser:
        depth += 1 if event == "start" else -1
        if depth == 0 and event == "end":
            yield element
            root.clear()


def _read_meta(meta: ElementTree.Element, path: Path) -> tuple[range, tuple | None, list[str]]:
    if meta.find("project") is not None:
        raise ConversionError(f"{path} is the export of a project: export its tasks one by one")
    task = meta.find("task")
    task = meta.find("job") if task is None else task
    if task is None:
        raise ConversionError(f"{path}: <meta> has neither <task> nor <job>")

    def number(name: str, default: int | None = None) -> int:
        text = (task.findtext(name) or "").strip()
        if re.fullmatch(r"\d{1,9}", text, re.ASCII):
            return int(text)
        if default is None or text:
            raise ConversionError(f"{path}: <{name}> must be a whole number, got {text!r:.60}")
        return default

    start, size = number("start_frame", 0), number("size")
    frame_filter = task.findtext("frame_filter") or ""
    match = STEP.fullmatch(frame_filter)
    if not match:
        raise ConversionError(
            f"{path}: <frame_filter> must be empty or step=N with N from 1, got "
            f"{frame_filter!r:.60}"
        )
    step = int(match[1] or 1)
    if size < 1:
        raise ConversionError(f"{path}: the task has no frames")
    picture = None
    if task.find("original_size") is not None:
        picture = number("original_size/height"), number("original_size/width")
    labels = [
        label.findtext("name") or ""
        for label in task.iterfind("labels/label")
        if not label.findtext("parent")  # a point of a skeleton
    ]
    return range(start, start + step * size, step), picture, labels


def _read_track(element: ElementTree.Element, path: Path, left_out: Counter) -> Track:
    label = element.get("label")
    where = f"{path}: track {element.get('id', '?'):.20} ({label or '':.60})"
    if not label:
        raise ConversionError(f"{where}: the track has no label")
    shapes, attributes = [], defaultdict(set)
    for child in element:
        if child.tag in WITHOUT_AREA:
            continue
        try:
            shapes.append(_read_shape(child))
        except (ValueError, TypeError) as error:
            raise ConversionError(
                f"{where}: <{child.tag}> of frame {child.get('frame', '?'):.20}: {error}"
            ) from error
        for attribute in child.iterfind("attribute"):
            attributes[attribute.get("name", "")].add(attribute.text or "")
    for kind in {child.tag for child in element} & set(WITHOUT_AREA):
        left_out[f"tracks of type {kind}, which have no mask"] += 1
    shapes.sort(key=lambda shape: shape.frame)
    for first, second in zip(shapes, shapes[1:], strict=False):
        if first.frame == second.frame:
            raise ConversionError(f"{where}: there are two shapes in frame {first.frame}")
    group = element.get("group_id")
    return Track(label, None if group == "0" else group, dict(attributes), shapes, where)


def _read_shape(element: ElementTree.Element) -> Shape:
    """Raises ValueError or TypeError (an attribute is missing) if the element is malformed."""
    kind = element.tag
    if kind == "polygon":
        pairs = [pair.split(",") for pair in (element.get("points") or "").split(";")]
        points = np.array([[float(x), float(y)] for x, y in pairs])
    elif kind in NUMBERS:
        points = np.array([float(element.get(name)) for name in NUMBERS[kind]])
    else:
        raise ValueError("unknown type of shape")
    if not (np.abs(points) <= MAX_COORDINATE).all():  # NaN is not
        raise ValueError(f"coordinates must be numbers of at most {MAX_COORDINATE:.0f} pixels")
    runs = ()
    if kind == "mask":
        points = points.astype(int)
        runs = tuple(int(run) for run in element.get("rle", "").split(","))
        width, height = points[2:].tolist()
        if min(width, height, *runs) < 0 or sum(runs) != width * height:
            raise ValueError(f"the rle has {sum(runs)} pixels, the mask {width} x {height}")
    frame = int(element.get("frame"))
    outside = element.get("outside", "0") == "1"
    return Shape(kind, frame, outside, points, float(element.get("rotation", 0)), runs)


# --- files ------------------------------------------------------------------------------------


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except KeyError as error:
        raise ConversionError(f"{path} has no {XML}: it is not an export of CVAT") from error
    except ZIP_ERRORS as error:
        raise ConversionError(f"{path} cannot be read as a ZIP: {error}") from error


@contextmanager
def _open_xml(path: Path) -> Iterator[BinaryIO]:
    if zipfile.is_zipfile(path):
        with open_zip(path) as archive, archive.open(XML) as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file
