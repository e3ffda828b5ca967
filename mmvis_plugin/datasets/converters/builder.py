"""Building a JSON in the official YouTube-VIS format."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pycocotools import mask as mask_utils

from mmvis_plugin.files import write_json
from mmvis_plugin.ytvis.problems import show
from mmvis_plugin.ytvis.reader import YTVIS, read_ytvis

from .frames import common_size, relative_names
from .records import ConversionError, listing

NOTED = ("similar_names", "repeated_frame", "frame_order", "backslash")  # warnings of the reader


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
        classes = [category["name"] for category in self.content["categories"]]
        lines = [
            f"wrote {path} (videos: {len(videos)}, frames: {frames}, objects: {objects}, "
            f"classes: {listing(classes)})"
        ]
        lines += [f"left out: {count} x {what}" for what, count in self.left_out.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


class YTVISBuilder:
    """Collects videos and tracks into a JSON in the official YouTube-VIS format.

    Args:
        source: Name of the source format, for the JSON's ``info``.
        images: Folder that ``file_names`` are relative to.
        classes: Class names in the order of their category ids (from 1); a track of another class
            is refused. By default the classes that occur, in order of their names.

    Attributes:
        left_out (Counter): For :attr:`Conversion.left_out`.
        notes (list): For :attr:`Conversion.notes`.
    """

    def __init__(
        self, source: str, images: str | os.PathLike, classes: Sequence[str] | None = None
    ):
        if classes is not None and len(set(classes)) < len(classes):
            raise ConversionError(f"a class is given twice: {listing(classes)}")
        self.source = source
        self.images = Path(images)
        self.classes = None if classes is None else dict.fromkeys(classes)
        self.left_out: Counter[str] = Counter()
        self.notes: list[str] = []
        self._videos: list[dict] = []
        self._tracks: list[tuple[str, dict]] = []

    def add_video(self, frames: Sequence[Path]) -> dict:
        """Add a video.

        Args:
            frames: Its images in order, one or more.

        Returns:
            dict: Its entry in the JSON: ``id`` (from 1), ``height`` and ``width`` of the frames in
            pixels, ``length``, ``file_names``.

        Raises:
            ConversionError: If frames cannot be read, differ in size or lie outside the folder of
                images.
        """
        height, width = common_size(frames)
        video = dict(
            id=len(self._videos) + 1,
            width=width,
            height=height,
            length=len(frames),
            file_names=relative_names(frames, self.images),
        )
        self._videos.append(video)
        return video

    def add_track(
        self, video: dict, class_name: str, masks: Mapping[int, dict], crowd: bool = False
    ) -> None:
        """Add an object; a frame in which its mask is empty counts as a frame without it.

        Args:
            video: From :meth:`add_video`.
            class_name: Class of the object.
            masks: Mask by frame index (from 0): compressed RLE of the video's size.
            crowd: Whether this is a region to ignore rather than an object.

        Raises:
            ConversionError: If the class is not among the given ones.
        """
        if self.classes is not None and class_name not in self.classes:
            raise ConversionError(
                f"video {Path(video['file_names'][0]).parent}: class {show(class_name)} is not "
                f"among the classes {listing(self.classes)}"
            )
        frames = sorted(masks)
        rles = [masks[frame] for frame in frames]
        areas = mask_utils.area(rles).tolist() if rles else []
        boxes = mask_utils.toBbox(rles).tolist() if rles else []
        self.left_out["masks without a pixel in the frame"] += areas.count(0)
        if not any(areas):
            self.left_out["objects without a mask in any frame"] += 1
            return
        absent = [None] * video["length"]
        track = dict(
            id=len(self._tracks) + 1,
            video_id=video["id"],
            category_id=None,  # known when all classes are
            iscrowd=int(crowd),
            width=video["width"],
            height=video["height"],
            length=video["length"],
            segmentations=absent,
            bboxes=absent.copy(),
            areas=absent.copy(),
        )
        for frame, rle, box, area in zip(frames, rles, boxes, areas, strict=True):
            if area:
                track["segmentations"][frame] = rle
                track["bboxes"][frame], track["areas"][frame] = box, area
        self._tracks.append((class_name, track))

    def build(self, *inputs: str | os.PathLike) -> Conversion:
        """Give the JSON.

        Args:
            inputs: What was converted, for messages.

        Raises:
            ConversionError: If there is no video or no object.
            FormatError: If the result is no valid dataset, as a class has an empty name.
        """
        if not self._videos:
            raise ConversionError(
                f"{', '.join(map(str, inputs))}: there is no video with annotations"
            )
        left_out = {what: count for what, count in self.left_out.items() if count}
        refuse_empty(self._tracks, inputs, left_out)
        names = list(self.classes or sorted({name for name, _ in self._tracks}))
        category_ids = {name: i for i, name in enumerate(names, start=1)}
        for name, track in self._tracks:
            track["category_id"] = category_ids[name]
        content = dict(
            info=dict(description=f"converted from {self.source} by mmvis_plugin"),
            categories=[
                dict(id=i, name=name, supercategory="object") for name, i in category_ids.items()
            ],
            videos=self._videos,
            annotations=[track for _, track in self._tracks],
        )
        notes = notes_of(read_ytvis(content, f"the dataset converted from {self.source}"))
        return Conversion(content, left_out, self.notes + notes)


def refuse_empty(
    objects: Collection,
    inputs: Sequence[str | os.PathLike],
    left_out: Mapping[str, int] | None = None,
) -> None:
    """Raise a ConversionError if there are no objects; it says where, and what was left out."""
    if not objects:
        reasons = [f"; left out: {count} x {what}" for what, count in (left_out or {}).items()]
        raise ConversionError(
            f"{', '.join(map(str, inputs))}: there is no object to convert{''.join(reasons)}"
        )


def notes_of(data: YTVIS) -> list[str]:
    """What the reader finds odd in a dataset and its user should know, one sentence each."""
    return [problem.sentence for problem in data.problems if problem.kind in NOTED]
