"""DAVIS and YouTube-VOS folders of indexed PNGs to the official YouTube-VIS JSON.

The index of a pixel is the id of the object it belongs to, 0 is background and 255 is void
(undecided, in DAVIS). YouTube-VOS names the classes of its objects in ``meta.json``:
``{"videos": {VIDEO: {"objects": {ID: {"category": NAME, "frames": [...]}}}}}``; DAVIS has none.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .builder import (
    Conversion,
    ConversionError,
    Progress,
    YTVISBuilder,
    encode_ids,
    no_progress,
    read_json,
    require,
)
from .frames import common_size, list_files, list_folders, list_frames, relative_names

VOID = 255


def convert_vos(
    images: str | os.PathLike,
    masks: str | os.PathLike,
    meta: str | os.PathLike | None = None,
    videos: Sequence[str] | None = None,
    class_name: str = "object",
    progress: Progress = no_progress,
    classes: Sequence[str] | None = None,
) -> Conversion:
    """Convert a folder of indexed PNGs.

    A frame without a PNG is left out: nothing is known about it (YouTube-VOS annotates every
    fifth frame). Void pixels belong to no object in the result.

    Args:
        images: Folder with a folder of frames for each video (``JPEGImages/480p``).
        masks: Folder with a folder of PNGs for each video (``Annotations/480p``), named like the
            frames.
        meta: YouTube-VOS's ``meta.json``, which names the classes.
        videos: Names of the videos to convert; all that have masks by default.
        class_name: Class of all objects where there is no ``meta``.
        progress: Shows progress over the videos.
        classes: Class names in the order of their category ids, so that several sets get the same
            ids; those that occur, by name, by default.

    Returns:
        Conversion: The official JSON; an object's masks do not overlap those of others.

    Raises:
        ConversionError: If a PNG is not indexed or not of its frame's size, a frame is missing,
            or ``meta`` does not fit; the message names the file.
        OSError: If a file cannot be read.
    """
    images, masks = Path(images), Path(masks)
    if classes is None and meta is None:
        classes = [class_name]
    builder = YTVISBuilder("indexed PNGs (DAVIS, YouTube-VOS)", classes)
    listed = _read_meta(Path(meta)) if meta else None
    names = videos if videos is not None else [folder.name for folder in list_folders(masks)]
    for name in progress(list(names), "video"):
        pngs = _list_masks(masks / name)
        frames = {path.stem: path for path in list_frames(images / name)}
        lost = [png for png in pngs if png.stem not in frames]
        if lost:
            raise ConversionError(f"{lost[0]}: there is no frame of this name in {images / name}")
        builder.left_out["frames without a PNG"] += len(frames) - len(pngs)
        frames = [frames[png.stem] for png in pngs]
        height, width = common_size(frames)
        video_id = builder.add_video(relative_names(frames, images), height, width)
        tracks, grey_void = defaultdict(dict), None
        for frame, png in enumerate(pngs):
            id_map, is_grey = _read_ids(png, height, width)
            ids = np.unique(id_map)
            grey_void = png if is_grey and VOID in ids else grey_void
            builder.left_out["frames with void pixels, which become background"] += VOID in ids
            ids = [id_ for id_ in ids.tolist() if id_ not in (0, VOID)]
            for id_, rle in zip(ids, encode_ids(id_map, ids), strict=True):
                tracks[id_][frame] = rle
        if not tracks and grey_void:
            raise ConversionError(
                f"{grey_void} is grey with no value but 0 and 255: a mask of one object, as in "
                "DAVIS 2016, says nothing about which; use the indexed PNGs of DAVIS 2017"
            )
        if not tracks:
            builder.notes.append(f"no object is drawn in video {name}")
        for id_ in sorted(tracks):
            label = class_name if listed is None else _class_of(listed, name, id_, meta)
            builder.add_track(video_id, label, tracks[id_])
        if listed is not None:
            drawn = {str(id_) for id_ in tracks}
            missing = len(set(listed.get(name, ())) - drawn)
            builder.left_out["objects of meta.json that are in no PNG"] += missing
    return builder.build()


def _list_masks(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConversionError(f"folder of masks {folder} does not exist")
    pngs = list_files(folder, [".png"])
    if not pngs:
        raise ConversionError(f"{folder} has no PNG")
    return pngs


def _read_ids(path: Path, height: int, width: int) -> tuple[np.ndarray, bool]:
    """Object id of every pixel: (height, width) uint8; and whether the picture is grey."""
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            id_map = np.asarray(picture)
    except Exception as error:  # Pillow's plugins raise many kinds for broken files
        raise ConversionError(f"{path} cannot be read as an image: {error}") from error
    if mode not in ("P", "L"):
        raise ConversionError(
            f"{path} is not indexed (its mode is {mode}): the ids are lost once a PNG has been "
            "saved in colours"
        )
    if id_map.shape != (height, width):
        raise ConversionError(
            f"{path} is {id_map.shape[1]} x {id_map.shape[0]} pixels, its frame {width} x {height}"
        )
    return id_map, mode == "L"


def _read_meta(path: Path) -> dict[str, dict[str, str | None]]:
    """Class name by object id by video."""
    meta = read_json(path)
    require(meta, dict(videos=dict), str(path))
    classes = {}
    for video, entry in meta["videos"].items():
        require(entry, dict(objects=dict), f"{path}: video {video}")
        classes[video] = {}
        for id_, item in entry["objects"].items():
            require(item, {}, f"{path}: video {video}: object {id_}")
            classes[video][id_] = item.get("category")
    return classes


def _class_of(listed: dict, video: str, id_: int, meta) -> str:
    where = f"{meta}: video {video}: object {id_}"
    if video not in listed or str(id_) not in listed[video]:
        raise ConversionError(f"{where} is drawn in the PNGs but is not listed")
    name = listed[video][str(id_)]
    if not isinstance(name, str):
        raise ConversionError(
            f"{where} has no category, as in the validation set; without meta.json all objects "
            "get one class"
        )
    return name
