"""What all converters share: building the official JSON, reading and writing files."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmvis_plugin.files import write_json
from mmvis_plugin.ytvis.rle import MAX_COORDINATE

Progress = Callable[[Collection, str], Iterable]
"""Wraps what is looped over, given the name of one item, to show progress."""
Keys = Mapping[str, type | tuple[type, ...]]
"""The keys of a JSON object, and the type or types that the value of each may have."""


class ConversionError(ValueError):
    """An annotation that cannot be converted; the message says what is wrong and where."""


def no_progress(items: Collection, unit: str) -> Iterable:
    """The :data:`Progress` that shows nothing."""
    return items


@dataclass(frozen=True)
class Conversion:
    """A converted dataset.

    Attributes:
        content: JSON in the target format.
        left_out: What the target does not hold, in words, and how often it occurred.
        notes: What the user should know about the result.
    """

    content: dict
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write(self, path: str | os.PathLike) -> str:
        """Write the JSON and describe it.

        Args:
            path: Target; missing folders are made, an existing file is replaced.

        Returns:
            str: A few lines about what was written and what was left out.
        """
        write_json(self.content, path)
        videos = self.content["videos"]
        images = self.content.get("images")
        frames = len(images) if images is not None else sum(len(v["file_names"]) for v in videos)
        annotations = self.content.get("annotations") or []
        objects = len({a.get("instance_id", a["id"]) for a in annotations})
        lines = [
            f"wrote {path}: {len(videos)} videos, {frames} frames, {objects} objects, "
            f"{len(self.content['categories'])} classes"
        ]
        lines += [f"left out: {count} x {what}" for what, count in self.left_out.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


class YTVISBuilder:
    """Collects videos and tracks into a JSON in the official YouTube-VIS format.

    Args:
        source: Name of the source format, for the JSON's ``info``.
        classes: Class names in the order of their category ids (from 1); a track of another class
            is refused. By default the classes that occur, in order of their names.
    """

    def __init__(self, source: str, classes: Sequence[str] | None = None):
        if classes is not None and len(set(classes)) < len(classes):
            raise ConversionError(f"the classes have a name twice: {', '.join(classes)}")
        self.source = source
        self.classes = classes
        self.left_out: Counter[str] = Counter()
        self.notes: list[str] = []
        self._videos: list[dict] = []
        self._tracks: list[tuple[str, dict]] = []

    def add_video(self, file_names: Sequence[str], height: int, width: int) -> int:
        """Add a video.

        Args:
            file_names: Its frames in order, relative to the dataset's folder of images.
            height: Of every frame, in pixels.
            width: Of every frame, in pixels.

        Returns:
            int: The video's id, from 1.
        """
        video_id = len(self._videos) + 1
        self._videos.append(
            dict(
                id=video_id,
                width=width,
                height=height,
                length=len(file_names),
                file_names=list(file_names),
            )
        )
        return video_id

    def add_track(
        self, video_id: int, class_name: str, masks: Mapping[int, dict], crowd: bool = False
    ) -> None:
        """Add an object; frames in which its mask is empty count as frames without it.

        Args:
            video_id: From :meth:`add_video`.
            class_name: Its class.
            masks: Frame index (from 0) to its mask there: compressed RLE of the video's size.
            crowd: Whether it is a region to ignore rather than an object.

        Raises:
            ConversionError: If the class is not among the given ones.
        """
        video = self._videos[video_id - 1]
        if self.classes is not None and class_name not in self.classes:
            raise ConversionError(
                f"video {Path(video['file_names'][0]).parent}: class {class_name!r} is not among "
                f"{', '.join(self.classes)}"
            )
        frames = sorted(masks)
        rles = [masks[frame] for frame in frames]
        areas = mask_utils.area(rles).tolist() if rles else []
        boxes = mask_utils.toBbox(rles).tolist() if rles else []
        segmentations = [None] * video["length"]
        bboxes, sizes = list(segmentations), list(segmentations)
        for frame, rle, box, area in zip(frames, rles, boxes, areas, strict=True):
            if area:
                segmentations[frame], bboxes[frame], sizes[frame] = text_rle(rle), box, area
        self.left_out["masks without a pixel in the frame"] += areas.count(0)
        if not any(areas):
            self.left_out["objects without a mask in any frame"] += 1
            return
        annotation = dict(
            id=len(self._tracks) + 1,
            video_id=video_id,
            category_id=None,  # known when all classes are
            iscrowd=int(crowd),
            width=video["width"],
            height=video["height"],
            length=video["length"],
            segmentations=segmentations,
            bboxes=bboxes,
            areas=sizes,
        )
        self._tracks.append((class_name, annotation))

    def build(self) -> Conversion:
        """Give the JSON.

        Raises:
            ConversionError: If there is no video.
        """
        if not self._videos:
            raise ConversionError("there is no video with annotations in the input")
        names = self.classes
        if names is None:
            names = sorted({name for name, _ in self._tracks})
        category_ids = {name: i + 1 for i, name in enumerate(names)}
        for name, annotation in self._tracks:
            annotation["category_id"] = category_ids[name]
        content = dict(
            info=dict(description=f"converted from {self.source} by mmvis_plugin"),
            categories=[
                dict(id=i, name=name, supercategory="object") for name, i in category_ids.items()
            ],
            videos=self._videos,
            annotations=[annotation for _, annotation in self._tracks],
        )
        left_out = {what: count for what, count in self.left_out.items() if count}
        return Conversion(content, left_out, self.notes)


def encode_ids(id_map: np.ndarray, ids: Sequence[int]) -> list[dict]:
    """Encode the regions of an index image.

    Args:
        id_map: Object id of every pixel, shape (H, W), integers.
        ids: The n ids to encode.

    Returns:
        list[dict]: n compressed RLEs, empty where an id does not occur.
    """
    if not len(ids):
        return []
    regions = id_map[:, :, None] == np.asarray(ids, id_map.dtype)
    return mask_utils.encode(np.asfortranarray(regions).view(np.uint8))


def encode_mask(mask: np.ndarray) -> dict:
    """Encode a mask of shape (H, W), bool, as compressed RLE."""
    return mask_utils.encode(np.asfortranarray(mask).view(np.uint8))


def encode_polygon(points: np.ndarray, height: int, width: int) -> dict:
    """Encode a polygon as compressed RLE, the way COCO draws polygons.

    Args:
        points: Corners (n, 2), x and y in pixels; parts outside the frame are cut off.
        height: Of the frame.
        width: Of the frame.

    Raises:
        ValueError: If there are fewer than three points, or a coordinate is not usable.
    """
    if len(points) < 3:
        raise ValueError(f"a polygon needs three points, got {len(points)}")
    check_coordinates(points)
    return mask_utils.frPyObjects([np.asarray(points, float).ravel().tolist()], height, width)[0]


def check_coordinates(points: Any) -> None:
    """Raise a ValueError unless all coordinates are finite and of a size that can be drawn."""
    try:
        drawable = (np.abs(np.asarray(points, float)) <= MAX_COORDINATE).all()
    except (TypeError, ValueError, OverflowError):
        drawable = False
    if not drawable:
        raise ValueError(f"coordinates must be numbers of at most {MAX_COORDINATE:.0f} pixels")


def text_rle(rle: dict) -> dict:
    """The RLE of pycocotools (``counts`` in bytes) as JSON holds it."""
    counts = rle["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode()
    return dict(size=[int(side) for side in rle["size"]], counts=counts)


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        ConversionError: If it is not JSON; the message names the file.
        OSError: If it cannot be read.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ConversionError(f"{path} is not valid JSON: {error}") from error


def read_ytvis(path: str | os.PathLike, of_video: Keys, of_track: Keys) -> dict:
    """Read an official YouTube-VIS JSON, with or without annotations.

    Args:
        path: The JSON.
        of_video: What each of its videos must have, see :func:`require`.
        of_track: What each of its annotations must have.

    Returns:
        dict: The content as it is.

    Raises:
        ConversionError: If it is not JSON, or something is missing; the message says where.
        OSError: If it cannot be read.
    """
    content = read_json(path)
    require(content, dict(videos=list, categories=list), str(path))
    if content.get("annotations") is not None:
        require(content, dict(annotations=list), str(path))
    for name, keys in (
        ("videos", of_video),
        ("categories", dict(id=(int, str), name=str)),
        ("annotations", of_track),
    ):
        for i, record in enumerate(content.get(name) or []):
            require(record, keys, f"{path}: {name}[{i}]")
    return content


def require(record: Any, keys: Keys, where: str) -> None:
    """Check that a JSON object has keys with values of the right types.

    Args:
        record: What should be an object.
        keys: Key to the type or types its value may have. ``float`` takes whole numbers too.
        where: Words that say where the record is.

    Raises:
        ConversionError: If it is no object, a key is missing or a value has another type.
    """
    if not isinstance(record, dict):
        raise ConversionError(f"{where}: expected an object, got a {type(record).__name__}")
    for key, types in keys.items():
        if key not in record:
            raise ConversionError(f"{where}: key {key!r} is missing")
        types = types if isinstance(types, tuple) else (types,)
        if float in types:
            types = (*types, int)
        value = record[key]
        # bool is an int for Python, not for JSON.
        valid = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
        if valid and isinstance(value, float):
            valid = math.isfinite(value)
        if not valid:
            names = " or ".join(kind.__name__ for kind in types)
            raise ConversionError(f"{where}: {key!r} must be {names}, got {value!r:.60}")
