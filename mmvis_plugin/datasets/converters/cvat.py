"""CVAT's "CVAT for video 1.1" to the official YouTube-VIS JSON.

The XML's ``<meta>`` has the task's frames (``start_frame``, ``frame_filter``, ``size``), its labels
and, for a video file, the frames' size. Each ``<track>`` has a ``<box>``, ``<polygon>``, ``<mask>``
... for some frames. CVAT's exports list a track in every frame in which its object is present: the
server interpolates before it writes, and leaves out frames that were deleted, and their images.
What a track is in a frame that is not listed follows from that:

- after a shape that is ``outside``, the object is absent until the next shape;
- after the last shape, unless that is outside, it stays as it is to the end (some versions of CVAT
  do not list the last frame);
- between two shapes, the first of them not outside, boxes and ellipses are interpolated linearly;
  polygons of files that do not come from CVAT are refused there.

CVAT has no tracks of masks: it exports a mask as a track of one frame, followed by an ``outside``
copy; a mask is therefore present in the frames it is listed for and in no other.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from mmvis_plugin.files import IMAGE_SUFFIXES, creating
from mmvis_plugin.ytvis.reader import Progress, no_progress

from .builder import Conversion, YTVISBuilder
from .cvat_task import XML, Shape, Task, Track, open_zip, read_task
from .encoding import add_mask, encode_mask, encode_polygon
from .frames import list_frames
from .records import ConversionError

ELLIPSE_CORNERS = 72
EXPORTED_FRAME = re.compile(r"frame_(\d{1,9})", re.ASCII)


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
        annotations: ZIP files as they were downloaded, their unpacked folders with an
            ``annotations.xml``, or XML files. A video has the name of the ZIP, folder or file.
        images: Folder with the frames of each video in ``NAME/images`` (as CVAT exports them) or
            ``NAME``. The frames of a ZIP whose folder is missing are unpacked to ``NAME/images``.
            Names like ``frame_000012.jpg`` have the frame's number; other names are taken in
            natural order and must be as many as the task has frames.
        classes: Labels in the order of their category ids; those of the tasks, by name, by default.
        identity: What an object is: 'track'; 'group', which joins tracks of one label and group
            (masks, which have no track of their own); or 'attribute:NAME', which joins tracks of
            one label and value of that attribute.
        progress: Shows progress over the files and over the videos.

    Returns:
        Conversion: The official JSON.

    Raises:
        ConversionError: If a file is not of this format or does not fit the frames; the message
            names the file, the track and the frame.
        OSError: If a file cannot be read, or the frames of a ZIP cannot be written.
    """
    if not re.fullmatch("track|group|attribute:.+", identity):
        raise ValueError(f"identity must be track, group or attribute:NAME, got {identity!r}")
    images = Path(images)
    tasks: dict[str, Task] = {}
    for path in progress(list(map(Path, annotations)), "file"):
        path = path / XML if path.is_dir() else path
        name = path.parent.name if path.name == XML else path.stem
        if name in tasks:
            raise ConversionError(f"{tasks[name].path} and {path} are both of a video {name}")
        tasks[name] = read_task(path)
    labels = {label for task in tasks.values() for label in task.labels}
    builder = YTVISBuilder("CVAT for video 1.1", images, classes or sorted(labels) or None)
    lone_masks = 0
    for name, task in progress(list(tasks.items()), "video"):
        frames = _match_frames(_list_images(task.path, images / name), task)
        builder.left_out["frames without an image, as of deleted ones"] += len(task.frames) - len(
            frames
        )
        video = builder.add_video(list(frames.values()))
        height, width = size = video["height"], video["width"]
        if task.size not in (None, size):
            raise ConversionError(
                f"{task.path}: the task's frames are {task.size[1]} x {task.size[0]} pixels, but "
                f"{next(iter(frames.values()))} is {width} x {height}"
            )
        objects = defaultdict(dict)
        for track in task.tracks:
            lone_masks += identity == "track" and track.shapes[0].kind == "mask"
            masks = objects[track.label, _object_key(track, identity)]
            for index, rle in _draw_track(track, list(frames), height, width):
                add_mask(masks, index, rle)
        for (label, _), masks in objects.items():
            builder.add_track(video, label, masks)
        builder.left_out.update(task.left_out)
    if lone_masks:
        builder.notes.append(
            f"{lone_masks} masks are objects of one frame each, as CVAT does not track masks. Give "
            "the masks of one object a group or an attribute in CVAT, and convert with --identity"
        )
    return builder.build(*annotations)


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


def _match_frames(images: list[Path], task: Task) -> dict[int, Path]:
    """The image by frame number, in order."""
    matches = [EXPORTED_FRAME.fullmatch(path.stem) for path in images]
    if not all(matches):
        if len(images) != len(task.frames):
            raise ConversionError(
                f"{task.path}: the task has {len(task.frames)} frames, but {images[0].parent} has "
                f"{len(images)} images"
            )
        return dict(zip(task.frames, images, strict=True))
    numbers = {int(m[1]): path for m, path in zip(matches, images, strict=True)}
    frames = {number: numbers[number] for number in sorted(numbers) if number in task.frames}
    if not frames:
        raise ConversionError(f"{task.path}: {images[0].parent} has no image of its frames")
    for track in task.tracks:
        for shape in track.shapes:
            if shape.frame in task.frames and shape.frame not in frames and not shape.outside:
                raise ConversionError(
                    f"{track.where}: {images[0].parent} has no image of frame {shape.frame}"
                )
    return frames


def _list_images(export: Path, folder: Path) -> list[Path]:
    """The images of a video's folder, which is first made of the export if it is missing."""
    if not folder.is_dir() and zipfile.is_zipfile(export):
        _unpack_images(export, folder)
    return list_frames(folder / "images" if (folder / "images").is_dir() else folder)


def _unpack_images(export: Path, folder: Path) -> None:
    with open_zip(export) as archive, creating(folder) as temporary:
        members = {
            PurePosixPath(member.filename).name: member
            for member in archive.infolist()
            if member.filename.startswith("images/")
            and PurePosixPath(member.filename).suffix.lower() in IMAGE_SUFFIXES
        }
        if not members:
            raise ConversionError(
                f"{export} has no frames: export it with images, or put the frames into {folder}"
            )
        needed = sum(member.file_size for member in members.values())
        if needed > shutil.disk_usage(temporary).free:
            raise ConversionError(f"{export}: the disk has no room for {needed} bytes of frames")
        (temporary / "images").mkdir()
        for name, member in members.items():
            with archive.open(member) as source, open(temporary / "images" / name, "wb") as target:
                shutil.copyfileobj(source, target)


# --- frames that are not listed ---------------------------------------------------------------


def fill_frames(shapes: Sequence[Shape], frames: Sequence[int]) -> Iterator[Shape]:
    """What a track is in each frame in which it is present.

    Args:
        shapes: The listed shapes, in order of their frames. One past the last frame counts for
            the interpolation towards it.
        frames: Numbers of the frames with an image, in order.

    Yields:
        Shape: In the order of the frames, ``outside`` never set.

    Raises:
        ValueError: If something would have to be interpolated that cannot be.
    """
    # CVAT marks the end of a shape that is no track by an outside copy in the next frame, but
    # forgets it where that is the last frame. Its tracks are listed up to the last frame.
    if len(shapes) == 1 and len(frames) > 1 and shapes[0].frame == frames[-2]:
        frames = frames[:-1]
    for shape, following in zip(shapes, [*shapes[1:], None], strict=True):
        stop = bisect_left(frames, following.frame) if following else len(frames)
        for number in frames[bisect_left(frames, shape.frame) : stop]:
            if shape.outside or (shape.kind == "mask" and number > shape.frame):
                break
            if number == shape.frame or not following:
                yield replace(shape, frame=number)
            else:
                yield _interpolate(shape, following, number)


def _interpolate(first: Shape, second: Shape, frame: int) -> Shape:
    if first.kind != second.kind or first.kind == "polygon":
        raise ValueError(
            f"nothing is known between the {first.kind} of frame {first.frame} and the "
            f"{second.kind} of frame {second.frame}; CVAT's own exports list all frames: import "
            "the file into CVAT and export it again"
        )
    offset = (frame - first.frame) / (second.frame - first.frame)
    points = first.points + (second.points - first.points) * offset
    turn = (second.rotation - first.rotation + 180) % 360 - 180  # the shorter way round
    rotation = (first.rotation + turn * offset) % 360
    return replace(first, frame=frame, points=points, rotation=rotation)


# --- drawing ----------------------------------------------------------------------------------


def _draw_track(
    track: Track, frames: list[int], height: int, width: int
) -> Iterator[tuple[int, dict]]:
    """Frame index and mask of each frame in which the track is present."""
    try:
        for shape in fill_frames(track.shapes, frames):
            yield bisect_left(frames, shape.frame), draw_shape(shape, height, width)
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
