"""The one reader of the YouTube-VIS format.

Dataset, metric, checker, converters, splitting and plots read a file with :func:`read_ytvis`, so
that they agree on every file, with the same words for a fault. Where nothing else is said, the
reader refuses; it never guesses. What a file must be:

- **JSON** in UTF-8 whose objects have no key twice, without NaN, infinity, numbers of thousands of
  digits or very deep nesting. It holds an object with the lists ``videos`` and ``categories``,
  neither empty, and ``annotations``: a list, or null or missing where there are none. Other keys,
  here and below, are not looked at.
- **Ids** of videos, categories and annotations are whole numbers below 2**63 or texts, each used
  once in its list; 1 and "1" are two ids, and 1.0 and true are none.
- **A category** has an ``id`` and a ``name``, a text that no other has. There are at most 65,536.
- **A video** has an ``id``, ``width`` and ``height`` (whole numbers from 1 to 32,767; 36.0 is
  one) and ``file_names``, one or more texts. ``length``, if it is there, is their number. ``tags``
  may be a list of texts.
- **An annotation** has an ``id``, the ``video_id`` and the ``category_id`` of a video and a
  category of the file, and ``segmentations``: for each of the video's frames a mask of the video's
  size, or null or an empty list where the object is absent. ``iscrowd`` is 0, 1, true or false;
  missing means 0. ``bboxes`` and ``areas`` may be missing or null, else have an entry per frame.
- **A mask** is compressed or uncompressed RLE that describes exactly the frame, or polygons of
  three or more points whose outlines together are no longer than 50 times the frame's height and
  width (and a million pixels).
- **A box** is four finite numbers x, y, w, h with w and h of 0 or more, or null or an empty list
  where none is given. **An area** is a finite number of 0 or more, or null. Of an absent object
  they say nothing: the box is null, an empty list or four zeros, the area null or 0.

Read, but with a warning: frames that are listed twice or not in the order of their names, file
names with backslashes, class names that differ in case or spaces only, masks without a pixel,
objects without a mask, an annotation whose ``width``, ``height`` or ``length`` differ from the
video's. Boxes and areas that contradict their masks are a matter of the checker
(:mod:`mmvis_plugin.ytvis.checking`), which warns of them too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmvis_plugin.files import natural_key

from .checks import Checks
from .json_file import constants_message, parse_json, without_garbage_collection
from .masks import parse_counts
from .problems import FormatError, Problem, Problems, show
from .rle import RLEError, decode_runs, what_is_wrong
from .values import (
    MAX_SIDE,
    are_texts,
    are_usual_areas,
    are_usual_boxes,
    is_area,
    is_box,
    is_side,
)

Progress = Callable[[Collection, str], Iterable]
"""Wraps what is looped over, given the name of one item, to show progress."""


def no_progress(items: Collection, unit: str) -> Iterable:
    """The :data:`Progress` that shows nothing."""
    return items


class VideoRecord(NamedTuple):
    """A checked video.

    Attributes:
        id: Id.
        height: Height of its frames in pixels.
        width: Width of its frames in pixels.
        file_names: The frames' file names, one or more.
        tags: Names of its tags, mostly none.
    """

    id: int | str
    height: int
    width: int
    file_names: list[str]
    tags: list[str]

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.file_names)


class TrackRecord(NamedTuple):
    """A checked annotation: one object in one video of ``length`` frames.

    Attributes:
        id: Id.
        video: Its video.
        category_id: Id of its category.
        crowd: Whether it is a region to ignore rather than an object.
        counts: Text of the mask as compressed RLE for each frame, "" where the object is absent.
        areas: (length,) int64, pixels of each mask; 0 where the object is absent or its mask empty.
        boxes: The file's own boxes for each frame: four finite numbers x, y, w, h, or something
            false. None if the file gives none.
        given_areas: The file's own areas for each frame: numbers of 0 or more, or null. None if the
            file gives none.
        index: Place in the file's list of annotations.
    """

    id: int | str
    video: VideoRecord
    category_id: int | str
    crowd: bool
    counts: list[str]
    areas: np.ndarray
    boxes: list | None
    given_areas: list | None
    index: int

    def rle(self, frame: int) -> dict | None:
        """The mask in a frame as compressed RLE, None where the object is absent."""
        size = [self.video.height, self.video.width]
        return {"size": size, "counts": self.counts[frame]} if self.counts[frame] else None


@dataclass(frozen=True, eq=False)
class YTVIS:
    """A checked file. A deep copy is the same object, since nothing changes it.

    Attributes:
        name: Name of the file, for messages.
        content: Its JSON. With ``keep_lists`` it is as it is in the file.
        categories: Class name by category id, in the order of the file.
        videos: Videos by id, in the order of the file.
        tracks: Annotations, in the order of the file.
        problems: Warnings and, where all problems are collected, errors. What has an error is not
            among the records.
    """

    name: str
    content: dict
    categories: dict[int | str, str] = field(default_factory=dict)
    videos: dict[int | str, VideoRecord] = field(default_factory=dict)
    tracks: list[TrackRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def __deepcopy__(self, memo: dict) -> YTVIS:
        return self


@without_garbage_collection()
def read_ytvis(
    source: str | os.PathLike | bytes | dict,
    name: str | None = None,
    collect: bool = False,
    keep_lists: bool = False,
    progress: Progress = no_progress,
) -> YTVIS:
    """Read and check a file in the YouTube-VIS format.

    The format and what is refused are described at the top of this module.

    Args:
        source: A path, the bytes of a JSON, or a loaded one, which is not changed.
        name: Name of the file in messages. By default its path, or "annotations".
        collect: Go on after an error, so that ``problems`` has all of them. By default the first
            is raised.
        keep_lists: Leave uncompressed RLEs in ``content`` as they are, for what copies them into
            another file. By default they are compressed before the JSON is parsed, which takes a
            fraction of the time and memory.
        progress: Shows progress over the annotations.

    Returns:
        YTVIS: The records.

    Raises:
        FormatError: The file is refused; the message names the file, the video, the annotation and
            the frame. Never with ``collect``.
        OSError: The file cannot be read.
    """
    name = name or (os.fspath(source) if isinstance(source, (str, os.PathLike)) else "annotations")
    problems = Problems(str(name), collect)
    constants: list[str] = []
    if isinstance(source, (str, os.PathLike)):
        source = Path(source).read_bytes()
    if isinstance(source, bytes):
        try:
            source, constants = parse_json(source, str(name), keep_lists)
        except FormatError as error:
            if not collect:
                raise
            problems.error("json", str(error).removeprefix(f"{name}: "))
            return YTVIS(str(name), {}, problems=problems)
    data = _Reader(problems, progress).read(source)
    if constants:  # where they are in something that is read, that was said with its place
        problems.error("json", constants_message(constants))
    return data


_FRAMES_AT_ONCE = 2000  # whose masks are read together


class _Parsed(NamedTuple):
    """An annotation whose masks, boxes and areas have not been looked at yet."""

    item: dict
    index: int
    video: VideoRecord
    counts: list[str]
    where: dict


class _Reader(Checks):
    """Turns the content of a file into records; what has an error is left out."""

    def __init__(self, problems: Problems, progress: Progress) -> None:
        super().__init__(problems)
        self.progress = progress

    def read(self, content: Any) -> YTVIS:
        data = YTVIS(self.problems.name, content, problems=self.problems)
        if not isinstance(content, dict):
            self.error("schema", f"the file must hold an object, got {show(content)}")
            return data
        self.read_categories(self.list_of(content, "categories"), data.categories)
        self._read_videos(self.list_of(content, "videos"), data.videos)
        self._read_tracks(self.annotations_of(content), data)
        return data

    # --- videos

    def _read_videos(self, items: list, videos: dict) -> None:
        seen: set = set()
        for index, item in enumerate(items):
            what = f"videos[{index}]"
            if not self.has_keys(item, ("id",), what) or not self.is_id(item["id"], "id", what):
                continue
            id_ = item["id"]
            if id_ in seen:
                self.error("duplicate_id", f"{what}: this id is used by two videos", video=id_)
                continue
            seen.add(id_)
            video = self._read_video(item, id_)
            if video is None:
                self.faulty.add(("video", id_))
            else:
                videos[id_] = video

    def _read_video(self, item: dict, id_: int | str) -> VideoRecord | None:
        if not self.has_keys(item, ("width", "height", "file_names"), "the video", video=id_):
            return None
        names = item["file_names"]
        if not isinstance(names, list) or not names or not are_texts(names):
            message = "'file_names' must be a list of one or more texts, got "
            return self.error("schema", message + show(names), video=id_)
        if item.get("length", len(names)) != len(names) or isinstance(item.get("length"), bool):
            message = f"'length' is {show(item['length'])}, but there are {len(names)} file_names"
            return self.error("length", message, video=id_)
        for key in ("width", "height"):
            if not is_side(item[key]):
                message = f"{key!r} must be a whole number from 1 to {MAX_SIDE}, got "
                return self.error("size", message + show(item[key]), video=id_)
        tags = item.get("tags")
        if tags is not None and not (isinstance(tags, list) and are_texts(tags)):
            message = f"'tags' must be a list of texts, got {show(tags)}"
            return self.error("schema", message, video=id_)
        self._look_at_names(names, id_)
        return VideoRecord(id_, int(item["height"]), int(item["width"]), names, tags or [])

    def _look_at_names(self, names: list[str], id_: int | str) -> None:
        if len(set(names)) < len(names):
            name, count = Counter(names).most_common(1)[0]
            self.warning("repeated_frame", f"{show(name)} is listed {count} times", video=id_)
        if "\\" in "".join(names):
            message = "file names have backslashes; write '/', which Windows understands too"
            self.warning("backslash", message, video=id_)
        if len(set(map(len, names))) == 1 and names == sorted(names):
            return  # the natural order too, found without taking the names apart
        keys = list(map(natural_key, names))
        for frame, (key, following) in enumerate(zip(keys, keys[1:], strict=False)):
            if following < key:
                message = "frames are not listed in the order of their names: "
                message += f"{show(names[frame])}, {show(names[frame + 1])}"
                self.warning("frame_order", message, video=id_)
                return

    # --- annotations

    def _read_tracks(self, items: list, data: YTVIS) -> None:
        seen: set = set()
        keys = ("id", "video_id", "category_id", "segmentations")
        parsed: list[_Parsed] = []  # whose masks are read together, which is faster
        num_frames = 0
        for index, item in enumerate(self.progress(items, "annotation")):
            what = f"annotations[{index}]"
            if not self.has_keys(item, keys, what):
                continue
            if not all(self.is_id(item[key], key, what) for key in keys[:3]):
                continue
            where = dict(video=item["video_id"], annotation=item["id"])
            if item["id"] in seen:
                self.error("duplicate_id", "this id is used by two annotations", **where)
                continue
            seen.add(item["id"])
            video = self.look_up(data.videos, "video", item["video_id"], **where)
            category = self.look_up(data.categories, "category", item["category_id"], **where)
            if self.is_crowd_flag(item, **where) and video is not None and category is not None:
                counts = self._parse_lists(item, video, where)
                if counts is not None:
                    parsed.append(_Parsed(item, index, video, counts, where))
                    num_frames += video.length
            if num_frames >= _FRAMES_AT_ONCE:
                data.tracks.extend(self._read_masks(parsed))
                parsed, num_frames = [], 0
        data.tracks.extend(self._read_masks(parsed))

    def _parse_lists(self, item: dict, video: VideoRecord, where: dict) -> list[str] | None:
        """Text of the masks; all lists have the length that they should have."""
        length = video.length
        for key in ("bboxes", "areas"):
            values = item.get(key)
            if values is not None and not (isinstance(values, list) and len(values) == length):
                found = f"{len(values)}" if isinstance(values, list) else show(values)
                message = f"{key!r} must be a list with an entry for each of {length} frames, got "
                return self.error("length", message + found, **where)
        try:
            return parse_counts(item["segmentations"], length, video.height, video.width)
        except RLEError as error:
            if error.index is None:
                return self.error("length", f"'segmentations' {error}", **where)
            return self.error("mask", f"the segmentation: {error}", **where, frame=error.index)

    def _read_masks(self, parsed: list[_Parsed]) -> Iterator[TrackRecord]:
        runs = decode_runs(list(chain.from_iterable(track.counts for track in parsed)))
        usual_boxes, usual_areas = (
            are_usual((t.item[key], t.counts) for t in parsed if t.item.get(key) is not None)
            for key, are_usual in (("bboxes", are_usual_boxes), ("areas", are_usual_areas))
        )
        stop = 0
        for item, index, video, counts, where in parsed:
            start, stop = stop, stop + len(counts)
            right = usual_boxes or self._are_boxes(item.get("bboxes"), counts, where)
            right &= usual_areas or self._are_areas(item.get("areas"), counts, where)
            if not right:
                continue
            areas, pixels = runs.areas[start:stop], runs.pixels[start:stop]
            wrong = pixels != video.height * video.width
            if np.count_nonzero(wrong) > counts.count(""):
                frame = next(t for t in wrong.nonzero()[0].tolist() if counts[t])
                reason = what_is_wrong(counts[frame], pixels[frame], video.height, video.width)
                self.error("mask", f"the segmentation: {reason}", **where, frame=frame)
                continue
            self._look_at_track(item, video, counts, areas, where)
            yield TrackRecord(
                id=item["id"],
                video=video,
                category_id=item["category_id"],
                crowd=bool(item.get("iscrowd", 0)),
                counts=counts,
                areas=areas,
                boxes=item.get("bboxes"),
                given_areas=item.get("areas"),
                index=index,
            )

    def _are_boxes(self, boxes: list | None, counts: list[str], where: dict) -> bool:
        for frame, (box, text) in enumerate(zip(boxes or (), counts, strict=False)):
            at = dict(where, frame=frame)
            if box is None or box == []:
                continue
            if not is_box(box):
                message = "the box must be four finite numbers x, y, w, h, w and h not negative, "
                self.error("box", f"{message}got {show(box)}", **at)
                return False
            if not text and any(box):
                self.error("box", f"there is a box but no mask: {show(box)}", **at)
                return False
        return True

    def _are_areas(self, areas: list | None, counts: list[str], where: dict) -> bool:
        for frame, (area, text) in enumerate(zip(areas or (), counts, strict=False)):
            if area is None:
                continue
            at = dict(where, frame=frame)
            if not is_area(area):
                message = f"the area must be a finite number of 0 or more, got {show(area)}"
                self.error("area", message, **at)
                return False
            if area and not text:
                self.error("area", f"there is an area but no mask: {show(area)}", **at)
                return False
        return True

    def _look_at_track(
        self, item: dict, video: VideoRecord, counts: list[str], areas: np.ndarray, where: dict
    ) -> None:
        sizes = dict(height=video.height, width=video.width, length=len(counts))
        for key, expected in sizes.items():
            if item.get(key, expected) != expected:
                message = f"the annotation's {key} is {show(item[key])}, the video's {expected}"
                self.warning("size", message, **where)
        num_visible = np.count_nonzero(areas)
        if len(counts) - counts.count("") > num_visible:
            for frame in np.flatnonzero(areas == 0).tolist():
                if counts[frame]:
                    self.warning("empty_mask", "the mask has no pixel", **where, frame=frame)
        if not num_visible:
            self.warning("absent_object", "the object has no mask in any frame", **where)
