"""Checks a dataset in the official YouTube-VIS format and finds all that is wrong with it.

:class:`YTVISDataset` stops at the first thing it cannot use; this reports every one, and what the
dataset would take in silence: boxes and areas that do not fit the masks, empty masks, images of
another size.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_utils

from mmvis_plugin.datasets.converters.builder import Progress, no_progress
from mmvis_plugin.datasets.converters.frames import image_size
from mmvis_plugin.ytvis.rle import rle_pixels, to_rle

BOX_TOLERANCE = 1.0  # pixels a side; some tools count the last pixel in, others do not
MAX_SIDE = 2**15  # pixels; no image format of video frames goes further
MAX_NUMBER = MAX_SIDE**2  # of a box or an area


@dataclass(frozen=True)
class Problem:
    """Something wrong.

    Attributes:
        level: 'error' for what cannot be used or is wrong, 'warning' for what is odd.
        kind: One word, the same for all problems of a kind.
        message: What is wrong.
        video: Id of the video, where it is about one.
        annotation: Id of the annotation, where it is about one.
        frame: Index of the frame from 0, where it is about one.
    """

    level: str
    kind: str
    message: str
    video: Any = None
    annotation: Any = None
    frame: int | None = None

    def __str__(self) -> str:
        where = ((name, getattr(self, name)) for name in ("video", "annotation", "frame"))
        parts = [f"{name} {value}: " for name, value in where if value is not None]
        return f"{self.level}: {''.join(parts)}{self.message} [{self.kind}]"


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        ann_file: The checked file.
        problems: All of them, in the order of the file.
        counts: Numbers of ``videos``, ``frames``, ``annotations`` and ``masks``, and of ``images``
            that were looked at.
        classes: By class name the numbers of ``videos``, ``objects`` and ``masks``.
    """

    ann_file: str
    problems: list[Problem]
    counts: dict[str, int]
    classes: dict[str, dict[str, int]]

    @property
    def num_errors(self) -> int:
        return sum(problem.level == "error" for problem in self.problems)

    def as_dict(self) -> dict:
        """What JSON can hold of it."""
        return asdict(self) | dict(num_errors=self.num_errors)

    def summary(self) -> str:
        """Table of the classes, counts of each kind of problem, and the verdict, as text."""
        columns = ("videos", "objects", "masks")
        width = max([len("class"), *(len(name) for name in self.classes)])
        lines = ["  ".join(["class".ljust(width), *columns])]
        for name, row in self.classes.items():
            cells = (str(row[column]).rjust(len(column)) for column in columns)
            lines.append("  ".join([name.ljust(width), *cells]))
        lines.append(", ".join(f"{count} {what}" for what, count in self.counts.items()))
        kinds = Counter((problem.level, problem.kind) for problem in self.problems)
        lines += [f"{count} x {level} {kind}" for (level, kind), count in kinds.most_common()]
        warnings = len(self.problems) - self.num_errors
        lines.append(f"{self.ann_file}: {self.num_errors} errors, {warnings} warnings")
        return "\n".join(lines)


def check_ytvis(
    ann_file: str | os.PathLike,
    images: str | os.PathLike | None = None,
    decode: bool = False,
    progress: Progress = no_progress,
) -> Report:
    """Check a dataset in the official YouTube-VIS format.

    Args:
        ann_file: The JSON.
        images: Folder of the frames, to check that they are there and of the right size.
        decode: Decode every frame, which finds damaged ones, instead of reading its header.
        progress: Shows progress over annotations and over videos' images.

    Returns:
        Report: All problems. A file that is no JSON is one, too.

    Raises:
        OSError: If ``ann_file`` cannot be read or ``images`` is no folder.
    """
    if images is not None and not Path(images).is_dir():
        raise NotADirectoryError(f"folder of images {images} does not exist")
    checker = _Checker(str(ann_file))
    content = checker.read_json(Path(ann_file))
    if content is not None:
        checker.check_categories(content["categories"])
        checker.check_videos(content["videos"])
        checker.check_annotations(content.get("annotations"), progress)
        if images is not None:
            checker.check_images(Path(images), decode, progress)
        checker.look_for_absent()
    return Report(checker.ann_file, checker.problems, checker.counts, checker.classes)


class _Checker:
    """Collects problems; what is too broken to be checked further is left out of ``videos``."""

    def __init__(self, ann_file: str):
        self.ann_file = ann_file
        self.problems: list[Problem] = []
        self.counts = dict(videos=0, frames=0, annotations=0, masks=0)
        self.classes: dict[str, dict[str, int]] = {}
        self.category_names: dict[Any, str] = {}
        self.videos: dict[Any, dict] = {}
        self.videos_of_class: dict[str, set] = {}

    def error(self, kind: str, message: str, **where) -> None:
        self.problems.append(Problem("error", kind, message, **where))

    def warning(self, kind: str, message: str, **where) -> None:
        self.problems.append(Problem("warning", kind, message, **where))

    def read_json(self, path: Path) -> dict | None:
        """The content, or None where there is nothing to go on with."""
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            return self.error("json", f"the file is not valid JSON: {error}")
        if not isinstance(content, dict):
            return self.error("schema", f"the file holds a {type(content).__name__}, no object")
        missing = [k for k in ("categories", "videos") if not isinstance(content.get(k), list)]
        for key in missing:
            self.error("schema", f"there is no list under the key {key!r}")
        return None if missing else content

    def check_categories(self, categories: list) -> None:
        for i, category in enumerate(categories):
            what = f"categories[{i}]"
            if not self._has_keys(category, ("id", "name"), what):
                continue
            id_, name = category["id"], category["name"]
            if not _is_id(id_) or not isinstance(name, str):
                self.error("schema", f"{what}: id {id_!r:.40} or name {name!r:.40} is unusable")
                continue
            if id_ in self.category_names:
                self.error("duplicate_id", f"{what}: category id {id_!r} is used twice")
            if name in self.classes:
                self.error("duplicate_id", f"{what}: category name {name!r} is used twice")
            self.category_names.setdefault(id_, name)
            self.classes.setdefault(name, dict(videos=0, objects=0, masks=0))
            self.videos_of_class.setdefault(name, set())
        if not categories:
            self.error("schema", "there are no categories")

    def check_videos(self, videos: list) -> None:
        if not videos:
            self.error("schema", "there are no videos")
        for i, video in enumerate(videos):
            what = f"videos[{i}]"
            if not self._has_keys(video, ("id", "width", "height", "file_names"), what):
                continue
            id_, names = video["id"], video["file_names"]
            self.counts["videos"] += 1
            if not _is_id(id_):
                self.error("schema", f"{what}: id {id_!r:.40} is neither a number nor a text")
                continue
            if id_ in self.videos:
                self.error("duplicate_id", f"{what}: this id is used by two videos", video=id_)
                continue
            if not isinstance(names, list) or not names or not _all_text(names):
                self.error("schema", "file_names must be a list of one or more names", video=id_)
                continue
            self.counts["frames"] += len(names)
            if "length" in video and video["length"] != len(names):
                self.error(
                    "length",
                    f"length is {video['length']!r:.40}, but there are {len(names)} file_names",
                    video=id_,
                )
            if not (_is_side(video["width"]) and _is_side(video["height"])):
                self.error(
                    "size",
                    "width and height must be positive whole numbers, got "
                    f"{video['width']!r:.40} and {video['height']!r:.40}",
                    video=id_,
                )
                continue
            tags = video.get("tags") or []
            if not isinstance(tags, list) or not _all_text(tags):
                self.error("schema", f"tags must be a list of names, got {tags!r:.40}", video=id_)
            for name, count in Counter(names).items():
                if count > 1:
                    self.warning("repeated_frame", f"{name} is listed {count} times", video=id_)
            self.videos[id_] = dict(
                names=names, size=(int(video["height"]), int(video["width"])), num_objects=0
            )

    def check_annotations(self, annotations: Any, progress: Progress) -> None:
        if annotations is None or annotations == []:
            self.warning("no_annotations", "there are no annotations to train on or to score with")
            return
        if not isinstance(annotations, list):
            self.error("schema", "annotations must be a list or null")
            return
        seen: set = set()
        for i, annotation in enumerate(progress(annotations, "annotation")):
            self.counts["annotations"] += 1
            what = f"annotations[{i}]"
            keys = ("id", "video_id", "category_id", "segmentations")
            if not self._has_keys(annotation, keys, what):
                continue
            ids = {key: annotation[key] for key in keys[:3]}
            unusable = [key for key, value in ids.items() if not _is_id(value)]
            if unusable:
                self.error("schema", f"{what}: {unusable[0]} is neither a number nor a text")
                continue
            where = dict(video=ids["video_id"], annotation=ids["id"])
            if ids["id"] in seen:
                self.error("duplicate_id", "this id is used by two annotations", **where)
            seen.add(ids["id"])
            name = self.category_names.get(ids["category_id"])
            if name is None:
                message = f"category_id {ids['category_id']!r} is not among the categories"
                self.error("unknown_category", message, **where)
            if not isinstance(annotation.get("iscrowd", 0), (int, float)):
                self.error("schema", "iscrowd must be 0 or 1", **where)
            video = self.videos.get(ids["video_id"])
            if video is None:
                self.error("unknown_video", "there is no usable video with this id", **where)
                continue
            num_masks = self._check_track(annotation, video, where)
            video["num_objects"] += 1
            self.counts["masks"] += num_masks
            if name is not None:
                self.classes[name]["objects"] += 1
                self.classes[name]["masks"] += num_masks
                self.videos_of_class[name].add(ids["video_id"])

    def _check_track(self, annotation: dict, video: dict, where: dict) -> int:
        """Check one object; give the number of frames in which it has a mask."""
        length, size = len(video["names"]), video["size"]
        for key, expected in zip(("height", "width", "length"), (*size, length), strict=True):
            if annotation.get(key, expected) != expected:
                self.warning(
                    "size",
                    f"the annotation's {key} is {annotation[key]!r:.40}, the video's {expected}",
                    **where,
                )
        lists = {}
        for key in ("segmentations", "bboxes", "areas"):
            values = annotation.get(key)
            if values is None and key != "segmentations":
                continue
            if not isinstance(values, list) or len(values) != length:
                got = f"{len(values)} entries" if isinstance(values, list) else repr(values)[:40]
                message = f"{key} must be a list with an entry for each of {length} frames, got "
                self.error("length", message + got, **where)
            else:
                lists[key] = values
        if "segmentations" not in lists:
            return 0
        rles = dict(self._read_masks(lists["segmentations"], size, where))
        areas = mask_utils.area(list(rles.values())).tolist() if rles else []
        boxes = mask_utils.toBbox(list(rles.values())).tolist() if rles else []
        masks = {}
        for frame, area, box in zip(rles, areas, boxes, strict=True):
            if area:
                masks[frame] = area, box
            else:
                self.warning("empty_mask", "the mask has no pixel", **where, frame=frame)
        if not masks:
            self.warning("absent_object", "the object has no mask in any frame", **where)
        self._compare(lists, masks, where)
        return len(masks)

    def _read_masks(
        self, segmentations: list, size: tuple[int, int], where: dict
    ) -> Iterator[tuple[int, dict]]:
        """Frame index and compressed RLE of the masks that can be decoded."""
        masks = {}
        for frame, segmentation in enumerate(segmentations):
            if not segmentation:
                continue
            try:
                masks[frame] = to_rle(segmentation, *size)
            except (ValueError, TypeError, OverflowError) as error:
                self.error("mask", f"the segmentation is unusable: {error}", **where, frame=frame)
        if not masks:
            return
        pixels = rle_pixels([rle["counts"] for rle in masks.values()])
        for (frame, rle), count in zip(masks.items(), pixels.tolist(), strict=True):
            if count == size[0] * size[1]:
                yield frame, rle
            else:
                message = f"the RLE does not describe a mask of {size[0]} x {size[1]} pixels"
                self.error("mask", message, **where, frame=frame)

    def _compare(self, lists: dict, masks: dict[int, tuple[int, list]], where: dict) -> None:
        """Compare boxes and areas with the areas and boxes of the masks that are not empty."""
        segmentations = lists["segmentations"]
        for frame, box in enumerate(lists.get("bboxes", ())):
            at = dict(where, frame=frame)
            if not box:
                if frame in masks:
                    self.warning("box", "the mask has no box", **at)
            elif not _are_numbers(box, 4):
                self.error("box", f"the box must be [x, y, w, h], got {box!r:.60}", **at)
            elif frame not in masks:
                if not segmentations[frame]:
                    self.error("box", "there is a box but no mask", **at)
            elif not _same_box(box, masks[frame][1]):
                message = f"the box is {box}, that of the mask {masks[frame][1]}"
                self.error("box", message, **at)
        for frame, area in enumerate(lists.get("areas", ())):
            at = dict(where, frame=frame)
            if area is None:
                if frame in masks:
                    self.warning("area", "the mask has no area", **at)
            elif not _are_numbers([area], 1):
                self.error("area", f"the area must be a number, got {area!r:.60}", **at)
            elif frame not in masks:
                if area and not segmentations[frame]:
                    self.error("area", "there is an area but no mask", **at)
            else:
                counted, (_, _, w, h) = masks[frame]
                # The area inside a polygon is not the number of pixels drawn for it: those on its
                # outline are in or out as a whole.
                tolerance = w + h if isinstance(segmentations[frame], list) else 0.5
                if abs(area - counted) > tolerance:
                    message = f"the area is {area}, that of the mask {counted}"
                    self.error("area", message, **at)

    def check_images(self, folder: Path, decode: bool, progress: Progress) -> None:
        self.counts["images"] = 0
        for id_, video in progress(list(self.videos.items()), "video"):
            for frame, name in enumerate(video["names"]):
                at = dict(video=id_, frame=frame)
                self.counts["images"] += 1
                try:
                    size = image_size(folder / name, decode)
                except FileNotFoundError:
                    self.error("missing_image", f"{folder / name} does not exist", **at)
                except (ValueError, OSError) as error:
                    self.error("unreadable_image", f"{folder / name} {error}", **at)
                else:
                    if size != video["size"]:
                        self.error(
                            "image_size",
                            f"{folder / name} is {size[1]} x {size[0]} pixels, the video "
                            f"{video['size'][1]} x {video['size'][0]}",
                            **at,
                        )

    def look_for_absent(self) -> None:
        for name, ids in self.videos_of_class.items():
            self.classes[name]["videos"] = len(ids)
        if not self.counts["annotations"]:
            return
        for id_, video in self.videos.items():
            if not video["num_objects"]:
                self.warning("empty_video", "the video has no objects", video=id_)
        for name, row in self.classes.items():
            if not row["objects"]:
                self.warning("unused_class", f"no object is of class {name!r}")

    def _has_keys(self, record: Any, keys: Collection[str], what: str) -> bool:
        if not isinstance(record, dict):
            self.error("schema", f"{what} is a {type(record).__name__}, no object")
            return False
        missing = [key for key in keys if key not in record]
        if missing:
            self.error(
                "schema",
                f"{what} has no {', '.join(map(repr, missing))}",
                video=_printable(record.get("id" if what.startswith("videos") else "video_id")),
            )
        return not missing


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_side(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 1 <= value < MAX_SIDE and value % 1 == 0


def _all_text(values: list) -> bool:
    return all(isinstance(value, str) for value in values)


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, (int, float)) and abs(value) <= MAX_NUMBER for value in values)
    )


def _same_box(given: list, measured: list) -> bool:
    """Whether the sides of two boxes (x, y, w, h) lie within the tolerance of each other."""
    sides = zip(given, measured, strict=True)
    left, top, width, height = (a - b for a, b in sides)
    return max(map(abs, (left, top, left + width, top + height))) <= BOX_TOLERANCE


def _printable(value: Any) -> Any:
    return value if _is_id(value) else None
