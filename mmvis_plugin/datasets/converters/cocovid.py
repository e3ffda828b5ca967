"""MMDetection's converted layout and the official YouTube-VIS JSON, in both directions.

MMDetection 3.x trains on "COCO-style" video JSON: ``videos``, ``images`` (one entry a frame, with
``video_id`` and ``frame_id``) and ``annotations`` (one entry an object and frame, with
``instance_id``). The official JSON has one entry an object, with a list over the frames. Both
directions go through the reader of the official format, which checks categories and masks.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmvis_plugin.files import natural_key
from mmvis_plugin.ytvis.problems import show
from mmvis_plugin.ytvis.reader import Progress, TrackRecord, VideoRecord, no_progress, read_ytvis

from .builder import Conversion, notes_of, refuse_empty
from .encoding import plain_counts
from .records import ConversionError, read_json, require, whole_number

BOTH = ("info", "licenses")  # copied as they are
LISTS = ("segmentations", "bboxes", "areas")


# --- from MMDetection's layout ----------------------------------------------------------------


def cocovid_to_ytvis(path: str | os.PathLike, progress: Progress = no_progress) -> Conversion:
    """Convert MMDetection's layout to the official one.

    Segmentations are copied as they are; boxes and areas too, and taken from the mask where they
    are missing. The id of an object is its ``instance_id`` where these are numbers, unique over the
    videos, as MMDetection's converter makes them; they are numbered anew where they are not.

    Numbers may be written as text or, by pandas, as 7.0. An object's id may be under ``track_id``
    or ``attributes.track_id``, as in exports of CVAT. Where no image has a ``video_id``, but all
    annotations have such an id, the images of a folder are a video, in the order of their names.

    Args:
        path: JSON in MMDetection's layout. Without the key ``annotations`` (validation sets) the
            result has null there, like the official files.
        progress: Shows progress over the annotations.

    Returns:
        Conversion: The official JSON. Left out are frames' keys other than ``file_name``.

    Raises:
        ConversionError: If the file is not of this layout or contradicts itself; the message
            names the file and the image or annotation.
        FormatError: If a mask, a box or a category cannot be used.
        OSError: If the file cannot be read.
    """
    raw = read_json(path)
    require(raw, dict(categories=list, images=list), str(path))
    notes: list[str] = []
    for i, category in enumerate(raw["categories"]):
        _read_numbers(category, ("id",), f"{path}: categories[{i}]")
    annotations = _read_annotations(raw, path)
    images = _read_images(raw, annotations, path, notes)
    videos, frame_of = _collect_videos(raw, images, path, notes)
    content = dict(
        {key: raw[key] for key in BOTH if key in raw},
        categories=raw["categories"],
        videos=list(videos.values()),
        annotations=None,
    )
    if raw.get("annotations") is not None:
        tracks = _collect_tracks(progress(annotations, "annotation"), videos, frame_of, path)
        content["annotations"] = _number(tracks)
        refuse_empty(tracks, [path])
    data = read_ytvis(content, str(path), keep_lists=True)
    for track in data.tracks:
        item = content["annotations"][track.index]
        item["bboxes"], item["areas"] = _boxes_and_areas(track)
    return Conversion(content, notes=notes + notes_of(data))


def _read_numbers(record: Any, keys: tuple[str, ...], where: str) -> None:
    """Turn values that are whole numbers in other words, such as "7" and 7.0, into numbers."""
    require(record, dict.fromkeys(keys, (int, str, float)), where)
    for key in keys:
        number = whole_number(record[key])
        if number is None and not isinstance(record[key], str):
            raise ConversionError(
                f"{where}: {key!r} must be a whole number, got {show(record[key])}"
            )
        record[key] = record[key] if number is None else number


def _read_annotations(raw: dict, path) -> list[dict]:
    """The annotations, with an ``instance_id`` wherever there is one of any name."""
    if raw.get("annotations") is None:
        return []
    require(raw, dict(annotations=list), str(path))
    for i, item in enumerate(raw["annotations"]):
        where = f"{path}: annotations[{i}]"
        _read_numbers(item, ("image_id", "category_id"), where)
        attributes = item.get("attributes")
        inner = attributes.get("track_id") if isinstance(attributes, dict) else None
        ids = (item.get("instance_id"), item.get("track_id"), inner)
        item["instance_id"] = next((id_ for id_ in ids if id_ is not None), None)
        if item["instance_id"] is not None:
            _read_numbers(item, ("instance_id",), where)
    return raw["annotations"]


def _read_images(raw: dict, annotations: list[dict], path, notes: list[str]) -> list[dict]:
    """The images, with ``video_id`` and ``frame_id``, in the order of their frames."""
    images, backslashes = raw["images"], 0
    for i, image in enumerate(images):
        where = f"{path}: images[{i}]"
        require(image, dict(file_name=str), where)
        _read_numbers(image, ("id", "height", "width"), where)
        backslashes += "\\" in image["file_name"]
        image["file_name"] = image["file_name"].replace("\\", "/")
    if backslashes:
        notes.append(f"backslashes in {backslashes} file names are written as '/'")
    if annotations and not any("video_id" in image for image in images):
        _make_videos_of_folders(raw, images, annotations, path, notes)
    for i, image in enumerate(images):
        where = f"{path}: images[{i}] (id {show(image['id'])})"
        if "video_id" not in image or "frame_id" not in image:
            raise ConversionError(_of_images(where))
        _read_numbers(image, ("video_id", "frame_id"), where)
        require(image, dict(frame_id=int), where)
    return sorted(images, key=lambda image: image["frame_id"])


def _of_images(where: str) -> str:
    return (
        f"{where} has no video_id or frame_id: this is a JSON of images, not of videos. From CVAT, "
        "export videos as 'CVAT for video 1.1' and convert them with the format cvat"
    )


def _make_videos_of_folders(
    raw: dict, images: list[dict], annotations: list[dict], path, notes: list[str]
) -> None:
    if any(item["instance_id"] is None for item in annotations):
        raise ConversionError(_of_images(f"{path}: images[0]"))
    folders = defaultdict(list)
    for image in sorted(images, key=lambda image: natural_key(image["file_name"])):
        folders[str(PurePosixPath(image["file_name"]).parent)].append(image)
    raw["videos"] = [dict(id=i, name=name) for i, name in enumerate(folders, start=1)]
    for id_, frames in enumerate(folders.values(), start=1):
        for frame, image in enumerate(frames):
            image["video_id"], image["frame_id"] = id_, frame
    notes.append(
        "the images have no video_id: the images of a folder are taken for a video, in the order "
        "of their names"
    )


def _collect_videos(
    raw: dict, images: list[dict], path, notes: list[str]
) -> tuple[dict, dict[int | str, tuple]]:
    """Official video entries by id, and (video id, frame index) by image id."""
    require(raw, dict(videos=list), str(path))
    frames_of, seen = defaultdict(list), set()
    for image in images:
        if image["id"] in seen:
            raise ConversionError(f"{path}: the id {show(image['id'])} is used by two images")
        seen.add(image["id"])
        frames_of[image["video_id"]].append(image)
    videos, frame_of, gaps = {}, {}, []
    for i, entry in enumerate(raw["videos"]):
        _read_numbers(entry, ("id",), f"{path}: videos[{i}]")
        id_ = entry["id"]
        where = f"{path}: videos[{i}] (id {show(id_)})"
        if id_ in videos:
            raise ConversionError(f"{where}: this id is used by two videos")
        frames = frames_of.pop(id_, None)
        if frames is None:
            raise ConversionError(f"{where}: there is no image of this video")
        videos[id_] = _official_video(entry, frames, where)
        frame_of.update({image["id"]: (id_, frame) for frame, image in enumerate(frames)})
        gaps += _find_gap(id_, frames)
    for id_, frames in frames_of.items():
        raise ConversionError(
            f"{path}: image {show(frames[0]['id'])}: there is no video {show(id_)}"
        )
    if gaps:
        notes.append(
            f"frame ids are missing, {gaps[0]} (videos with gaps: {len(gaps)}); in the result the "
            "frames around a gap follow each other"
        )
    return videos, frame_of


def _official_video(entry: dict, frames: list[dict], where: str) -> dict:
    for key in ("height", "width"):
        if key in entry:
            _read_numbers(entry, (key,), where)
    entry = {"height": frames[0]["height"], "width": frames[0]["width"], **entry}
    sizes = {(image["height"], image["width"]) for image in (entry, *frames)}
    if len(sizes) > 1:
        raise ConversionError(
            f"{where}: the frames have several sizes (height, width): "
            f"{', '.join(map(str, sorted(sizes, key=str)))}"
        )
    if len({image["frame_id"] for image in frames}) < len(frames):
        raise ConversionError(f"{where}: a frame_id is used by two images")
    return {
        **{key: value for key, value in entry.items() if key != "name"},
        "length": len(frames),
        "file_names": [image["file_name"] for image in frames],
    }


def _find_gap(id_: int | str, frames: list[dict]) -> list[str]:
    """Where a video's frame ids leave some out; not where each step is the same, as of 5."""
    numbers = [image["frame_id"] for image in frames]
    steps = [b - a for a, b in zip(numbers, numbers[1:], strict=False)]
    wide = [i for i, step in enumerate(steps) if step > min(steps)]
    return [
        f"as in video {show(id_)} between {show(numbers[i])} and {show(numbers[i + 1])}"
        for i in wide[:1]
    ]


def _collect_tracks(annotations, videos: dict, frame_of: dict, path) -> dict[tuple, dict]:
    """Official annotations (without ids) by (video id, instance id)."""
    tracks: dict[tuple, dict] = {}
    for i, item in enumerate(annotations):
        where = f"{path}: annotations[{i}] of image {show(item['image_id'])}"
        if item["instance_id"] is None:
            raise ConversionError(
                f"{where} has no instance_id, so its object cannot be found in other frames"
            )
        where += f", instance {show(item['instance_id'])}"
        if item["image_id"] not in frame_of:
            raise ConversionError(f"{where}: there is no image with this id")
        video_id, frame = frame_of[item["image_id"]]
        if item.get("video_id") is not None:
            _read_numbers(item, ("video_id",), where)
            if item["video_id"] != video_id:
                raise ConversionError(
                    f"{where}: video_id is {show(item['video_id'])}, but the image is of video "
                    f"{show(video_id)}"
                )
        segmentation = item.get("segmentation")
        if not segmentation:
            raise ConversionError(f"{where}: there is no segmentation; boxes alone are no masks")
        if isinstance(segmentation, dict) and "counts" in segmentation:
            segmentation = dict(segmentation, counts=plain_counts(segmentation["counts"]))
        crowd = item.get("iscrowd", 0)
        crowd = whole_number(crowd) if isinstance(crowd, float) else crowd
        track = tracks.setdefault(
            (video_id, item["instance_id"]),
            _empty_track(videos[video_id], item["category_id"], crowd),
        )
        if (track["category_id"], track["iscrowd"]) != (item["category_id"], crowd):
            raise ConversionError(
                f"{where}: category {show(item['category_id'])} and iscrowd {show(crowd)}, but "
                f"{show(track['category_id'])} and {show(track['iscrowd'])} in an earlier frame"
            )
        if track["segmentations"][frame] is not None:
            raise ConversionError(f"{where}: the instance occurs twice in this image")
        track["segmentations"][frame] = segmentation
        track["bboxes"][frame], track["areas"][frame] = item.get("bbox"), item.get("area")
    return tracks


def _empty_track(video: dict, category_id, crowd: Any) -> dict:
    return dict(
        video_id=video["id"],
        category_id=category_id,
        iscrowd=crowd,
        width=video["width"],
        height=video["height"],
        length=video["length"],
        **{key: [None] * video["length"] for key in LISTS},
    )


def _number(tracks: dict[tuple, dict]) -> list[dict]:
    """Annotations with their instance ids where each is a number of one video only, else from 1."""
    ids = [instance_id for _, instance_id in tracks]
    if len(set(ids)) < len(ids) or not all(isinstance(id_, int) for id_ in ids):
        ids = range(1, len(ids) + 1)
    numbered = zip(ids, tracks.values(), strict=True)
    return [dict(id=id_, **track) for id_, track in sorted(numbered, key=lambda pair: pair[0])]


# --- from the official layout -----------------------------------------------------------------


def ytvis_to_cocovid(path: str | os.PathLike, progress: Progress = no_progress) -> Conversion:
    """Convert the official layout to MMDetection's.

    An object's ``instance_id`` is its id in the official JSON where all ids are whole numbers of
    at least 1 (MMDetection takes 0 for a missing id), and its position from 1 where they are not.

    Args:
        path: Official JSON; ``annotations`` may be null or missing.
        progress: Shows progress over the annotations.

    Returns:
        Conversion: JSON in MMDetection's layout, frames and annotations in the order of videos
        and frames. Left out are objects without a mask in any frame and lists over frames other
        than masks, boxes and areas (OVIS has ``occlusion``).

    Raises:
        FormatError: If the file is refused; the message names the file, the video and the
            annotation.
        OSError: If the file cannot be read.
    """
    data = read_ytvis(path, keep_lists=True, progress=progress)
    raw = data.content
    left_out: Counter[str] = Counter()
    tracks_of = defaultdict(list)
    for track in data.tracks:
        tracks_of[track.video.id].append(track)
        left_out["objects without a mask in any frame"] += not any(track.counts)
        left_out.update(
            f"lists {key!r} of objects"
            for key, value in raw["annotations"][track.index].items()
            if isinstance(value, list) and key not in LISTS
        )
    content = dict(
        {key: raw[key] for key in BOTH if key in raw},
        categories=raw["categories"],
        videos=[],
        images=[],
    )
    annotations = []
    keep_ids = all(isinstance(track.id, int) and track.id >= 1 for track in data.tracks)
    for entry in raw["videos"]:
        video = data.videos[entry["id"]]
        others = {key: v for key, v in entry.items() if key not in ("file_names", "length")}
        content["videos"].append(dict(dict(name=video.file_names[0].split("/")[0]), **others))
        images = _frame_entries(video, len(content["images"]) + 1)
        content["images"] += images
        annotations += _frame_annotations(raw, images, tracks_of[video.id], keep_ids)
    left_out = {what: count for what, count in left_out.items() if count}
    if raw.get("annotations") is not None:
        refuse_empty(annotations, [path], left_out)
        content["annotations"] = [dict(id=i + 1, **item) for i, item in enumerate(annotations)]
    return Conversion(content, left_out, notes_of(data))


def _frame_entries(video: VideoRecord, first_id: int) -> list[dict]:
    """A video's entries of ``images``."""
    return [
        dict(
            file_name=name,
            height=video.height,
            width=video.width,
            id=first_id + frame,
            frame_id=frame,
            video_id=video.id,
        )
        for frame, name in enumerate(video.file_names)
    ]


def _frame_annotations(
    raw: dict, images: list[dict], tracks: list[TrackRecord], keep_ids: bool
) -> list[dict]:
    """A video's entries of ``annotations`` without their ids, frame by frame."""
    measured = [_boxes_and_areas(track) for track in tracks]
    return [
        dict(
            video_id=track.video.id,
            image_id=image["id"],
            category_id=track.category_id,
            instance_id=track.id if keep_ids else track.index + 1,
            bbox=bboxes[frame],
            segmentation=raw["annotations"][track.index]["segmentations"][frame],
            area=areas[frame],
            iscrowd=int(track.crowd),
        )
        for frame, image in enumerate(images)
        for track, (bboxes, areas) in zip(tracks, measured, strict=True)
        if track.counts[frame]
    ]


def _boxes_and_areas(track: TrackRecord) -> tuple[list, list]:
    """Boxes (x, y, w, h) and areas by frame, measured where the file gives none."""
    bboxes, areas = [None] * track.video.length, [None] * track.video.length
    frames = [frame for frame, counts in enumerate(track.counts) if counts]
    if not frames:
        return bboxes, areas
    boxes = mask_utils.toBbox([track.rle(frame) for frame in frames])
    for frame, box in zip(frames, np.asarray(boxes).tolist(), strict=True):
        given = track.boxes[frame] if track.boxes else None
        bboxes[frame] = given or box
        given = track.given_areas[frame] if track.given_areas else None
        areas[frame] = int(track.areas[frame]) if given is None else given
    return bboxes, areas
