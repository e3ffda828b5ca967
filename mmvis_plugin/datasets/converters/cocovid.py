"""MMDetection's converted layout and the official YouTube-VIS JSON, in both directions.

MMDetection 3.x trains on "COCO-style" video JSON: ``videos``, ``images`` (one entry a frame, with
``video_id`` and ``frame_id``) and ``annotations`` (one entry an object and frame, with
``instance_id``). The official JSON has one entry an object, with a list over the frames.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict

from pycocotools import mask as mask_utils

from mmvis_plugin.ytvis.masks import to_rle
from mmvis_plugin.ytvis.rle import rle_pixels

from .builder import Conversion, Progress, no_progress
from .records import ConversionError, read_json, require

ID = (int, str)
BOTH = ("info", "licenses")  # copied as they are


def cocovid_to_ytvis(path: str | os.PathLike, progress: Progress = no_progress) -> Conversion:
    """Convert MMDetection's layout to the official one.

    Segmentations are copied as they are; boxes and areas too, and taken from the mask where they
    are missing. The id of an object is its ``instance_id`` where these are numbers, unique over the
    videos, as MMDetection's converter makes them; they are numbered anew where they are not.

    Args:
        path: JSON in MMDetection's layout. Without the key ``annotations`` (validation sets) the
            result has null there, like the official files.
        progress: Shows progress over the annotations.

    Returns:
        Conversion: The official JSON. Left out are frames' keys other than ``file_name``.

    Raises:
        ConversionError: If the file is not of this layout or contradicts itself; the message
            names the file and the image or annotation.
        OSError: If the file cannot be read.
    """
    raw = read_json(path)
    require(raw, dict(categories=list, videos=list, images=list), str(path))
    videos, frame_of = _collect_videos(raw, path)
    content = dict(
        {key: raw[key] for key in BOTH if key in raw},
        categories=_check_categories(raw["categories"], path),
        videos=list(videos.values()),
        annotations=None,
    )
    if raw.get("annotations") is None:
        return Conversion(content)
    require(raw, dict(annotations=list), str(path))

    tracks = _collect_tracks(raw, videos, frame_of, path, progress)
    ids = _unique_ids(tracks)
    for key, track in tracks.items():
        where = f"{path}: video {key[0]}, instance {key[1]}"
        track["bboxes"], track["areas"] = _boxes_and_areas(track, videos[key[0]], where)
    content["annotations"] = [
        dict(id=ids[key], **tracks[key]) for key in sorted(tracks, key=ids.get)
    ]
    return Conversion(content)


def ytvis_to_cocovid(path: str | os.PathLike, progress: Progress = no_progress) -> Conversion:
    """Convert the official layout to MMDetection's.

    An object's ``instance_id`` is its id in the official JSON where all ids are whole numbers of
    at least 1 (MMDetection takes 0 for a missing id), and its position from 1 where they are not.

    Args:
        path: Official JSON; ``annotations`` may be null or missing.
        progress: Shows progress over the videos.

    Returns:
        Conversion: JSON in MMDetection's layout, frames and annotations in the order of videos
        and frames. Left out are objects without a mask in any frame and lists over frames other
        than masks, boxes and areas (OVIS has ``occlusion``).

    Raises:
        ConversionError: If the file is not of this layout; the message names the file, the video
            and the annotation.
        OSError: If the file cannot be read.
    """
    raw = read_json(path)
    require(raw, dict(categories=list, videos=list), str(path))
    categories = _check_categories(raw["categories"], path)
    tracks_of, left_out = _tracks_by_video(raw, path)
    content = dict(
        {key: raw[key] for key in BOTH if key in raw}, categories=categories, videos=[], images=[]
    )
    annotations = []
    seen = set()
    for i, video in enumerate(progress(raw["videos"], "video")):
        where = f"{path}: videos[{i}]"
        _check_video(video, where)
        if video["id"] in seen:
            raise ConversionError(f"{where} (id {video['id']}): this id is used by two videos")
        seen.add(video["id"])
        entry = {key: value for key, value in video.items() if key not in ("file_names", "length")}
        name = video["file_names"][0].split("/")[0]
        content["videos"].append(dict(dict(name=name), **entry))
        images = _frame_entries(video, len(content["images"]) + 1)
        content["images"] += images
        annotations += _frame_annotations(video, images, tracks_of.pop(video["id"], []))
    for tracks in tracks_of.values():
        _, track, where = tracks[0]
        raise ConversionError(f"{where}: there is no video {track['video_id']}")
    if raw.get("annotations") is not None:
        content["annotations"] = [dict(id=i + 1, **item) for i, item in enumerate(annotations)]
    return Conversion(content, dict(left_out))


# --- from MMDetection's layout ----------------------------------------------------------------


def _collect_videos(raw: dict, path) -> tuple[dict, dict]:
    """Official video entries by id, and (video id, frame index) by image id."""
    images = defaultdict(list)
    seen = set()
    for i, image in enumerate(raw["images"]):
        where = f"{path}: images[{i}]"
        require(image, dict(id=ID, file_name=str, height=int, width=int), where)
        if "video_id" not in image or "frame_id" not in image:
            raise ConversionError(
                f"{where} (id {image['id']}) has no video_id or frame_id: this is a JSON of "
                "images, not of videos"
            )
        require(image, dict(video_id=ID, frame_id=int), where)
        if image["id"] in seen:
            raise ConversionError(f"{where}: the id {image['id']} is used by two images")
        seen.add(image["id"])
        images[image["video_id"]].append(image)

    videos, frame_of = {}, {}
    for i, entry in enumerate(raw["videos"]):
        where = f"{path}: videos[{i}]"
        require(entry, dict(id=ID), where)
        id_ = entry["id"]
        if id_ in videos:
            raise ConversionError(f"{where}: the id {id_} is used by two videos")
        frames = sorted(images.pop(id_, ()), key=lambda image: image["frame_id"])
        if not frames:
            raise ConversionError(f"{where} (id {id_}): there is no image of this video")
        entry = {"height": frames[0]["height"], "width": frames[0]["width"], **entry}
        sizes = {(image["height"], image["width"]) for image in [entry, *frames]}
        if len(sizes) > 1:
            raise ConversionError(
                f"{where} (id {id_}): the frames have several sizes (height, width): "
                f"{', '.join(map(str, sorted(sizes)))}"
            )
        if len({image["frame_id"] for image in frames}) < len(frames):
            raise ConversionError(f"{where} (id {id_}): a frame_id is used by two images")
        frame_of.update({image["id"]: (id_, frame) for frame, image in enumerate(frames)})
        videos[id_] = {
            **{key: value for key, value in entry.items() if key != "name"},
            "length": len(frames),
            "file_names": [image["file_name"] for image in frames],
        }
    if images:
        id_, frames = images.popitem()
        raise ConversionError(
            f"{path}: image {frames[0]['id']} is of video {id_}, which is not there"
        )
    if not videos:
        raise ConversionError(f"{path} has no videos")
    return videos, frame_of


def _collect_tracks(
    raw: dict, videos: dict, frame_of: dict, path, progress: Progress
) -> dict[tuple, dict]:
    """Official annotations (without ids) by (video id, instance id)."""
    category_ids = {category["id"] for category in raw["categories"]}
    tracks: dict[tuple, dict] = {}
    for i, item in enumerate(progress(raw["annotations"], "annotation")):
        where = f"{path}: annotations[{i}]"
        require(item, dict(image_id=ID, category_id=ID, instance_id=ID), where)
        where += f" of image {item['image_id']}, instance {item['instance_id']}"
        if item["image_id"] not in frame_of:
            raise ConversionError(f"{where}: there is no image with this id")
        video_id, frame = frame_of[item["image_id"]]
        if item.get("video_id", video_id) != video_id:
            raise ConversionError(
                f"{where}: video_id is {item['video_id']}, but the image is of video {video_id}"
            )
        if item["category_id"] not in category_ids:
            raise ConversionError(f"{where}: there is no category {item['category_id']}")
        if not item.get("segmentation"):
            raise ConversionError(f"{where}: there is no segmentation; boxes alone are no masks")
        key, crowd = (video_id, item["instance_id"]), int(bool(item.get("iscrowd", 0)))
        if key not in tracks:
            tracks[key] = _empty_track(videos[video_id], item["category_id"], crowd)
        track = tracks[key]
        if (track["category_id"], track["iscrowd"]) != (item["category_id"], crowd):
            raise ConversionError(
                f"{where}: category {item['category_id']} and iscrowd {crowd}, but "
                f"{track['category_id']} and {track['iscrowd']} in an earlier frame"
            )
        if track["segmentations"][frame] is not None:
            raise ConversionError(f"{where}: the instance occurs twice in this image")
        track["segmentations"][frame] = item["segmentation"]
        track["bboxes"][frame], track["areas"][frame] = item.get("bbox"), item.get("area")
    return tracks


def _empty_track(video: dict, category_id, crowd: int) -> dict:
    length = video["length"]
    return dict(
        video_id=video["id"],
        category_id=category_id,
        iscrowd=crowd,
        width=video["width"],
        height=video["height"],
        length=length,
        segmentations=[None] * length,
        bboxes=[None] * length,
        areas=[None] * length,
    )


def _unique_ids(tracks: dict[tuple, dict]) -> dict[tuple, int]:
    """Instance ids where they are numbers and each is used in one video only, else from 1."""
    ids = [instance_id for _, instance_id in tracks]
    if len(set(ids)) < len(ids) or not all(isinstance(id_, int) for id_ in ids):
        ids = range(1, len(ids) + 1)
    return dict(zip(tracks, ids, strict=True))


# --- from the official layout -----------------------------------------------------------------


def _tracks_by_video(raw: dict, path) -> tuple[dict, Counter]:
    """(instance id, annotation, where) by video id, and what is left out."""
    annotations = raw.get("annotations") or []
    if not isinstance(annotations, list):
        raise ConversionError(f"{path}: annotations must be a list")
    category_ids = {category["id"] for category in raw["categories"]}
    known = {"segmentations", "bboxes", "areas"}
    tracks, left_out, seen = defaultdict(list), Counter(), set()
    wheres = []
    for i, track in enumerate(annotations):
        where = f"{path}: annotations[{i}]"
        require(track, dict(id=ID, video_id=ID, category_id=ID, segmentations=list), where)
        wheres.append(f"{where} (id {track['id']}) of video {track['video_id']}")
        if track["id"] in seen:
            raise ConversionError(f"{wheres[-1]}: this id is used by two annotations")
        seen.add(track["id"])
        if track["category_id"] not in category_ids:
            raise ConversionError(f"{wheres[-1]}: there is no category {track['category_id']}")
        left_out.update(
            f"lists {key!r} of objects"
            for key, value in track.items()
            if isinstance(value, list) and key not in known
        )
        if not any(track["segmentations"]):
            left_out["objects without a mask in any frame"] += 1
    keep_ids = all(isinstance(id_, int) and id_ >= 1 for id_ in seen)
    for i, (track, where) in enumerate(zip(annotations, wheres, strict=True)):
        tracks[track["video_id"]].append((track["id"] if keep_ids else i + 1, track, where))
    return tracks, left_out


def _check_video(video, where: str) -> None:
    require(video, dict(id=ID, width=int, height=int, file_names=list), where)
    names = video["file_names"]
    if not names or not all(isinstance(name, str) for name in names):
        raise ConversionError(
            f"{where} (id {video['id']}): file_names must be a list of one or more names"
        )


def _frame_entries(video: dict, first_id: int) -> list[dict]:
    """A video's entries of ``images``."""
    return [
        dict(
            file_name=name,
            height=video["height"],
            width=video["width"],
            id=first_id + frame,
            frame_id=frame,
            video_id=video["id"],
        )
        for frame, name in enumerate(video["file_names"])
    ]


def _frame_annotations(video: dict, images: list[dict], tracks: list[tuple]) -> list[dict]:
    """A video's entries of ``annotations`` without their ids, frame by frame."""
    measured = [_boxes_and_areas(track, video, where) for _, track, where in tracks]
    return [
        dict(
            video_id=video["id"],
            image_id=image["id"],
            category_id=track["category_id"],
            instance_id=instance_id,
            bbox=bboxes[frame],
            segmentation=track["segmentations"][frame],
            area=areas[frame],
            iscrowd=int(bool(track.get("iscrowd", 0))),
        )
        for frame, image in enumerate(images)
        for (instance_id, track, _), (bboxes, areas) in zip(tracks, measured, strict=True)
        if track["segmentations"][frame]
    ]


# --- both -------------------------------------------------------------------------------------


def _check_categories(categories: list, path) -> list:
    for i, category in enumerate(categories):
        require(category, dict(id=ID, name=str), f"{path}: categories[{i}]")
    if len({category["id"] for category in categories}) < len(categories):
        raise ConversionError(f"{path}: an id is used by two categories")
    return categories


def _boxes_and_areas(track: dict, video: dict, where: str) -> tuple[list, list]:
    """Boxes (x, y, w, h) and areas of an official annotation, from the masks where missing.

    Checks the lists and the masks on the way.
    """
    length, size = len(video["file_names"]), (video["height"], video["width"])
    for key in ("segmentations", "bboxes", "areas"):
        values = track.get(key)
        if values is None and key != "segmentations":
            continue
        if not isinstance(values, list) or len(values) != length:
            raise ConversionError(
                f"{where}: {key} must be a list with an entry for each of {length} frames"
            )
    frames, rles = [], []
    for frame, segmentation in enumerate(track["segmentations"]):
        if segmentation:
            try:
                rles.append(to_rle(segmentation, *size))
            except ValueError as error:
                raise ConversionError(f"{where}, frame {frame}: {error}") from error
            frames.append(frame)
    bboxes, areas = [None] * length, [None] * length
    if not frames:
        return bboxes, areas
    pixels = rle_pixels([rle["counts"] for rle in rles])
    for frame, count in zip(frames, pixels, strict=True):
        if count != size[0] * size[1]:
            raise ConversionError(
                f"{where}, frame {frame}: the RLE does not describe {size[0]} x {size[1]} pixels"
            )
    measured = zip(mask_utils.toBbox(rles).tolist(), mask_utils.area(rles).tolist(), strict=True)
    for frame, (bbox, area) in zip(frames, measured, strict=True):
        given = [(track.get(key) or [None] * length)[frame] for key in ("bboxes", "areas")]
        bboxes[frame] = bbox if given[0] is None else given[0]
        areas[frame] = area if given[1] is None else given[1]
    return bboxes, areas
