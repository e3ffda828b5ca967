"""Checks a dataset in the official YouTube-VIS format and finds all that is wrong with it.

The reader (:mod:`mmvis_plugin.ytvis.reader`) finds what every part of this package refuses; these
are errors, and so are images that are missing, unreadable or of another size. Warnings are what is
read but odd: the reader's own, boxes and areas that contradict their masks, videos and classes
without objects.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pycocotools import mask as mask_utils

from .frame_files import image_size
from .problems import Problem, Problems
from .reader import YTVIS, Progress, TrackRecord, no_progress, read_ytvis

__all__ = ["Problem", "Report", "check_ytvis"]

BOX_TOLERANCE = 1.0  # pixels a side; some tools count the last pixel in, others do not


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        ann_file: The checked file.
        problems: All of them.
        counts: Numbers of ``videos``, ``frames``, ``annotations`` and ``masks``, and of ``images``
            that were checked.
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
    data = read_ytvis(ann_file, collect=True, progress=progress)
    problems = Problems(str(ann_file), collect=True)
    problems += data.problems
    counts = dict(
        videos=len(data.videos),
        frames=sum(video.length for video in data.videos.values()),
        annotations=len(data.tracks),
        masks=sum(int((track.areas > 0).sum()) for track in data.tracks),
    )
    for track in data.tracks:
        _compare(track, _forms(data, track), problems)
    if images is not None:
        counts["images"] = _check_images(data, Path(images), decode, progress, problems)
    classes = _count_classes(data)
    _look_for_absent(data, classes, problems)
    return Report(str(ann_file), list(problems), counts, classes)


def _forms(data: YTVIS, track: TrackRecord) -> list:
    """The masks of a track as they are in the file."""
    return data.content["annotations"][track.index]["segmentations"]


def _compare(track: TrackRecord, forms: list, problems: Problems) -> None:
    """Compare boxes and areas with those of the masks that are not empty."""
    where = dict(video=track.video.id, annotation=track.id)
    frames = track.areas.nonzero()[0].tolist()
    measured = mask_utils.toBbox([track.rle(frame) for frame in frames]).tolist() if frames else []
    for frame, box in zip(frames, measured, strict=True):
        at = dict(where, frame=frame)
        if track.boxes is not None:
            _compare_box(track.boxes[frame], box, problems, at)
        if track.given_areas is not None:
            # The area inside a polygon is not the number of pixels drawn for it: those on its
            # outline are in or out as a whole.
            tolerance = box[2] + box[3] if isinstance(forms[frame], list) else 0.5
            counted = int(track.areas[frame])
            _compare_area(track.given_areas[frame], counted, tolerance, problems, at)


def _compare_box(given: list | None, measured: list, problems: Problems, at: dict) -> None:
    if not given:
        problems.warning("box", "the mask has no box", **at)
        return
    left, top, width, height = (a - b for a, b in zip(given, measured, strict=True))
    if max(map(abs, (left, top, left + width, top + height))) > BOX_TOLERANCE:
        problems.warning("box", f"the box is {given}, the box of the mask {measured}", **at)


def _compare_area(
    given: float | None, counted: int, tolerance: float, problems: Problems, at: dict
) -> None:
    if given is None:
        problems.warning("area", "the mask has no area", **at)
    elif abs(given - counted) > tolerance:
        problems.warning("area", f"the area is {given}, the area of the mask {counted}", **at)


def _check_images(
    data: YTVIS, folder: Path, decode: bool, progress: Progress, problems: Problems
) -> int:
    """Look at all frames; give their number."""
    for video in progress(list(data.videos.values()), "video"):
        expected = video.height, video.width
        for frame, name in enumerate(video.file_names):
            kind, message = _image_problem(folder / name, expected, decode)
            if kind:
                problems.error(kind, message, video=video.id, frame=frame)
    return sum(video.length for video in data.videos.values())


def _image_problem(path: Path, expected: tuple[int, int], decode: bool) -> tuple[str, str]:
    """Kind of problem and message, both empty if there is none."""
    try:
        height, width = image_size(path, decode)
    except FileNotFoundError:
        return "missing_image", f"{path} does not exist"
    except (ValueError, OSError) as error:
        return "unreadable_image", f"{path} {error}"
    if (height, width) != expected:
        video = f"the video {expected[1]} x {expected[0]}"
        return "image_size", f"{path} is {width} x {height} pixels, {video}"
    return "", ""


def _count_classes(data: YTVIS) -> dict[str, dict[str, int]]:
    """Numbers of videos, objects and masks by class name."""
    by_class: dict[str, list[TrackRecord]] = {name: [] for name in data.categories.values()}
    for track in data.tracks:
        by_class[data.categories[track.category_id]].append(track)
    return {name: _count(tracks) for name, tracks in by_class.items()}


def _count(tracks: Sequence[TrackRecord]) -> dict[str, int]:
    return dict(
        videos=len({track.video.id for track in tracks}),
        objects=len(tracks),
        masks=sum(int((track.areas > 0).sum()) for track in tracks),
    )


def _look_for_absent(data: YTVIS, classes: dict, problems: Problems) -> None:
    if not isinstance(data.content, dict):
        return
    if data.content.get("annotations") in (None, []):
        problems.warning("no_annotations", "there are no annotations to train on or to score with")
        return
    occupied = {track.video.id for track in data.tracks}
    occupied.update(problem.video for problem in problems if problem.annotation is not None)
    for id_ in data.videos:
        if id_ not in occupied:
            problems.warning("empty_video", "the video has no objects", video=id_)
    for name, row in classes.items():
        if not row["objects"]:
            problems.warning("unused_class", f"no object is of class {name!r}")
