"""CVAT's "CVAT for video 1.1" XML to the official YouTube-VIS JSON.

``<meta>`` tells the task's frames (``start_frame``, ``frame_filter``, ``size``), its labels and,
for a video file, the frames' size; each ``<track>`` has a ``<box>``, ``<polygon>``, ``<mask>`` ...
for some frames. What a track is in the other frames is as CVAT defines it:

- after a shape that is ``outside``, the object is absent until the next shape;
- between two shapes, the first of them not outside, boxes and ellipses are interpolated linearly
  and polygons by matching their corners along the outline (:func:`interpolate_polygon`);
- after the last shape, unless that is outside, it stays as it is to the end.

CVAT has no tracks of masks: it exports a mask as a track of one frame, followed by an ``outside``
copy; a mask is therefore present in the frames it is listed for and in no other.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from pycocotools import mask as mask_utils

from .builder import (
    Conversion,
    ConversionError,
    Progress,
    YTVISBuilder,
    check_coordinates,
    encode_mask,
    encode_polygon,
    no_progress,
)
from .frames import common_size, list_frames, relative_names

NUMBERS = dict(
    box=("xtl", "ytl", "xbr", "ybr"),
    ellipse=("cx", "cy", "rx", "ry"),
    mask=("left", "top", "width", "height"),
)
WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
ELLIPSE_CORNERS = 72
EXPORTED_FRAME = re.compile(r"frame_(\d+)")


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


def convert_cvat(
    annotations: Sequence[str | os.PathLike],
    images: str | os.PathLike,
    classes: Sequence[str] | None = None,
    identity: str = "track",
    progress: Progress = no_progress,
) -> Conversion:
    """Convert tasks or jobs exported as "CVAT for video 1.1", each a video.

    Boxes and ellipses become masks of their shape. Overlapping objects keep their overlap.

    Args:
        annotations: XML files, or the unpacked exports' folders with an ``annotations.xml``. A
            video's name is that of the folder or file.
        images: Folder with the frames of each video in ``NAME/images`` (as CVAT exports them) or
            ``NAME``. Names like ``frame_000012.jpg`` tell the frame's number; other names are
            taken in natural order and must be as many as the task has frames.
        classes: Labels in the order of their category ids; those of the first task's ``<meta>``
            and then of the others by default.
        identity: What an object is: 'track'; 'group', which joins tracks of one label and group
            (masks, which have no track of their own); or 'attribute:NAME', which joins tracks of
            one label and value of that attribute.
        progress: Shows progress over the videos.

    Returns:
        Conversion: The official JSON.

    Raises:
        ConversionError: If a file is not of this format or does not fit the frames; the message
            names the file, the track and the frame.
        OSError: If a file cannot be read.
    """
    if not re.fullmatch("track|group|attribute:.+", identity):
        raise ValueError(f"identity must be track, group or attribute:NAME, got {identity!r}")
    images = Path(images)
    tasks: dict[str, Task] = {}
    for path in progress(list(map(Path, annotations)), "file"):
        path = path / "annotations.xml" if path.is_dir() else path
        name = path.parent.name if path.stem == "annotations" else path.stem
        if name in tasks:
            raise ConversionError(f"{tasks[name].path} and {path} are both of a video {name}")
        tasks[name] = read_task(path)
    labels = classes or list(dict.fromkeys(n for task in tasks.values() for n in task.labels))
    builder = YTVISBuilder("CVAT for video 1.1", labels or None)
    lone_masks = 0
    for name, task in progress(list(tasks.items()), "video"):
        folder = images / name / "images"
        frames = _match_frames(list_frames(folder if folder.is_dir() else images / name), task)
        height, width = size = common_size(frames)
        if task.size not in (None, size):
            raise ConversionError(
                f"{task.path}: the task's frames are {task.size[1]} x {task.size[0]} pixels, but "
                f"{frames[0]} is {width} x {height}"
            )
        video_id = builder.add_video(relative_names(frames, images), height, width)
        objects = defaultdict(dict)
        for track in task.tracks:
            lone_masks += identity == "track" and track.shapes[0].kind == "mask"
            masks = objects[track.label, _object_key(track, identity)]
            for index, rle in _draw_track(track, task.frames, height, width):
                masks[index] = mask_utils.merge([masks[index], rle]) if index in masks else rle
        for (label, _), masks in objects.items():
            builder.add_track(video_id, label, masks)
        builder.left_out.update(task.left_out)
    if lone_masks:
        builder.notes.append(
            f"{lone_masks} masks are objects of one frame each, as CVAT does not track masks. Give "
            "the masks of one object a group or an attribute in CVAT, and choose that as identity"
        )
    return builder.build()


def _object_key(track: Track, identity: str) -> str:
    if identity == "group" and track.group:
        return f"group {track.group}"
    if identity.startswith("attribute:"):
        name = identity.partition(":")[2]
        values = track.attributes.get(name, set())
        if len(values) != 1:
            raise ConversionError(
                f"{track.where}: attribute {name!r} must have one value in a track, got "
                f"{', '.join(sorted(values)) or 'none'}"
            )
        return f"value {min(values)}"
    return track.where


def _match_frames(images: list[Path], task: Task) -> list[Path]:
    """The image of each of the task's frames."""
    matches = [EXPORTED_FRAME.fullmatch(path.stem) for path in images]
    if all(matches):
        by_number = {int(m[1]): path for m, path in zip(matches, images, strict=True)}
        missing = len(task.frames) - sum(number in task.frames for number in by_number)
        if missing:
            first = next(number for number in task.frames if number not in by_number)
            raise ConversionError(
                f"{task.path}: {images[0].parent} has no image of frame {first} "
                f"({missing} of {len(task.frames)} frames are missing)"
            )
        return [by_number[number] for number in task.frames]
    if len(images) != len(task.frames):
        raise ConversionError(
            f"{task.path}: the task has {len(task.frames)} frames, but {images[0].parent} has "
            f"{len(images)} images"
        )
    return images


# --- reading ----------------------------------------------------------------------------------


def read_task(path: Path) -> Task:
    """Read an XML.

    Raises:
        ConversionError: If it is not an XML of this format; the message names the track.
        OSError: If the file cannot be read.
    """
    meta, tracks, left_out = None, [], Counter()
    try:
        parser = ElementTree.iterparse(path, events=("start", "end"))
        _, root = next(parser)
        if root.tag != "annotations":
            raise ConversionError(f"{path}: the root is <{root.tag}>, not CVAT's <annotations>")
        for event, element in parser:
            if event == "start":
                continue
            if element.tag == "image":
                raise ConversionError(
                    f"{path} has <image> elements: it was exported as 'CVAT for images', which has "
                    "no tracks; export it as 'CVAT for video 1.1'"
                )
            if element.tag == "meta":
                meta = _read_meta(element, path)
            elif element.tag == "track":
                track = _read_track(element, path, left_out)
                if track.shapes:
                    tracks.append(track)
                element.clear()  # large exports would not fit into memory
    except ElementTree.ParseError as error:
        raise ConversionError(f"{path} is not valid XML: {error}") from error
    if meta is None:
        raise ConversionError(f"{path} has no <meta>, which tells the task's frames")
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


def _read_meta(meta: ElementTree.Element, path: Path) -> tuple[range, tuple | None, list[str]]:
    if meta.find("project") is not None:
        raise ConversionError(f"{path} is the export of a project: export its tasks one by one")
    task = meta.find("task")
    task = meta.find("job") if task is None else task
    if task is None:
        raise ConversionError(f"{path}: <meta> has neither <task> nor <job>")

    def number(name: str, default: int | None = None) -> int:
        text = (task.findtext(name) or "").strip()
        if text.isdecimal():
            return int(text)
        if default is None or text:
            raise ConversionError(f"{path}: <{name}> must be a whole number, got {text!r}")
        return default

    start, size = number("start_frame", 0), number("size")
    frame_filter = re.search(r"step\s*=\s*(\d+)", task.findtext("frame_filter") or "")
    step = int(frame_filter[1]) if frame_filter else 1
    if size < 1 or step < 1:
        raise ConversionError(f"{path}: the task has {size} frames in steps of {step}")
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
    where = f"{path}: track {element.get('id')} ({label})"
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
                f"{where}: <{child.tag}> of frame {child.get('frame')}: {error}"
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
    check_coordinates(points)
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


# --- interpolation ----------------------------------------------------------------------------


def fill_frames(shapes: Sequence[Shape], frames: range) -> Iterator[Shape]:
    """What a track is in each frame in which it is present.

    Args:
        shapes: The listed shapes, in order of their frames. One past the last frame counts for
            the interpolation towards it.
        frames: Numbers of the task's frames.

    Yields:
        Shape: In the order of the frames, ``outside`` never set.

    Raises:
        ValueError: If it would have to be interpolated between shapes of two kinds.
    """
    # CVAT marks the end of a shape that is no track by an outside copy in the next frame, but
    # forgets it where that is the last frame. Its tracks are listed up to the last frame.
    if len(shapes) == 1 and len(frames) > 1 and shapes[0].frame == frames[-2]:
        frames = frames[:-1]
    for shape, following in zip(shapes, [*shapes[1:], None], strict=True):
        if shape.outside or shape.frame >= frames.stop:
            continue
        yield shape
        if shape.kind == "mask":
            continue
        stop = frames.stop if following is None else min(following.frame, frames.stop)
        for number in range(shape.frame + frames.step, stop, frames.step):
            if following is None:
                yield replace(shape, frame=number)
            else:
                yield _interpolate(shape, following, number)


def _interpolate(first: Shape, second: Shape, frame: int) -> Shape:
    if first.kind != second.kind:
        raise ValueError(
            f"the track changes from {first.kind} in frame {first.frame} to {second.kind} in frame "
            f"{second.frame}; nothing is known about the frames between"
        )
    offset = (frame - first.frame) / (second.frame - first.frame)
    if first.kind == "polygon":
        return replace(
            first, frame=frame, points=interpolate_polygon(first.points, second.points, offset)
        )
    points = first.points + (second.points - first.points) * offset
    turn = (second.rotation - first.rotation + 180) % 360 - 180  # the shorter way round
    rotation = (first.rotation + turn * offset) % 360
    return replace(first, frame=frame, points=points, rotation=rotation)


def interpolate_polygon(first: np.ndarray, second: np.ndarray, offset: float) -> np.ndarray:
    """Polygon between two polygons, as CVAT's server interpolates them.

    Each corner has a position on its outline, the share of the length walked from the first
    corner. Each corner of ``first`` is matched with the corner of ``second`` of the nearest
    position, then each corner of ``second`` still alone with one of ``first``. The pairs move on
    straight lines. Where several corners met in one, those that came closer together than half
    the mean length of their edges are merged.

    Args:
        first: Corners (n, 2), x and y in pixels.
        second: Corners (m, 2).
        offset: 0 for ``first`` to 1 for ``second``.

    Returns:
        np.ndarray: Corners (k, 2), k between 1 and n + m.
    """
    left, right = (np.concatenate([polygon, polygon[:1]]) for polygon in (first, second))
    matches = _match_corners(_outline_positions(left), _outline_positions(right))
    corners = []
    # Neighbours in `first` that share one match form a group; one with several is a group.
    groups = groupby(range(len(left)), lambda i: (i if len(matches[i]) > 1 else -1, matches[i][0]))
    for _, group in groups:
        group = list(group)
        pairs = [(i, j) for i in group for j in matches[i]]
        i, j = np.array(pairs).T
        moved = left[i] + (right[j] - left[i]) * offset
        several = left[i[0] : i[-1] + 1] if len(group) > 1 else right[j[0] : j[-1] + 1]
        corners += _merge_close(moved, _walked(several)[-1] / (2 * len(several)))
    return np.array(corners[:-1])


def _walked(curve: np.ndarray) -> np.ndarray:
    """Length of a curve (n, 2) from its start to each point: (n,)."""
    steps = np.sqrt((np.diff(curve, axis=0) ** 2).sum(axis=1))
    return np.concatenate([[0], np.cumsum(steps)])


def _outline_positions(curve: np.ndarray) -> np.ndarray:
    walked = _walked(curve)
    return walked / (walked[-1] or 1)


def _match_corners(left: np.ndarray, right: np.ndarray) -> list[list[int]]:
    """Corners of the right outline matched with each corner of the left one, in order."""
    distances = np.abs(left[:, None] - right)
    matches = [[j] for j in distances.argmin(axis=1).tolist()]
    for j in sorted(set(range(len(right))) - {j for (j,) in matches}):
        matches[distances[:, j].argmin()].append(j)
    return [sorted(group) for group in matches]


def _merge_close(points: np.ndarray, threshold: float) -> list[np.ndarray]:
    """Thin a chain of points out, keeping its ends unless they too are closer than that."""
    if len(points) == 1:
        return [points[0]]
    kept = [points[0]]
    for point in points[1:-1]:
        if _distance(point, kept[-1]) >= threshold:
            kept.append(point)
    kept.append(points[-1])
    if len(kept) == 2 and _distance(*kept) < threshold:
        return [(kept[0] + kept[1]) / 2]
    return kept


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return np.sqrt(((a - b) ** 2).sum())


# --- drawing ----------------------------------------------------------------------------------


def _draw_track(track: Track, frames: range, height: int, width: int) -> Iterator[tuple[int, dict]]:
    """Frame index and mask of each frame in which the track is present."""
    try:
        for shape in fill_frames(track.shapes, frames):
            yield frames.index(shape.frame), draw_shape(shape, height, width)
    except ValueError as error:
        raise ConversionError(f"{track.where}: {error}") from error


def draw_shape(shape: Shape, height: int, width: int) -> dict:
    """Compressed RLE of a shape in a frame; parts outside the frame are cut off.

    Raises:
        ValueError: If the shape is no area.
    """
    try:
        if shape.kind == "mask":
            return _draw_mask(shape, height, width)
        if shape.kind == "polygon":
            return encode_polygon(shape.points, height, width)
        if shape.kind == "box":
            x1, y1, x2, y2 = shape.points
            corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
        else:
            angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
            corners = (
                shape.points[:2]
                + np.stack([np.cos(angles), np.sin(angles)], 1) * (shape.points[2:])
            )
        return encode_polygon(_rotate(corners, shape.rotation), height, width)
    except ValueError as error:
        raise ValueError(f"frame {shape.frame}: {error}") from error


def _rotate(corners: np.ndarray, degrees: float) -> np.ndarray:
    """Turn corners (n, 2) around their centre, clockwise as y points down."""
    if not degrees:
        return corners
    center = corners.mean(axis=0)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (corners - center) @ np.array([[cos, sin], [-sin, cos]]) + center


def _draw_mask(shape: Shape, height: int, width: int) -> dict:
    x, y, w, h = shape.points.tolist()
    if min(x, y) < 0 or x + w > width or y + h > height:
        raise ValueError(
            f"the mask, {w} x {h} pixels at ({x}, {y}), is not within the {width} x {height} frame"
        )
    mask = np.zeros((height, width), bool)
    runs = np.repeat(np.arange(len(shape.runs)) % 2 == 1, shape.runs)
    mask[y : y + h, x : x + w] = runs.reshape(h, w)
    return encode_mask(mask)
