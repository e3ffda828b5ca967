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

from mmvis_plugin.ytvis.reader import Progress, no_progress

from .builder import Conversion, YTVISBuilder
from .encoding import encode_ids
from .frames import list_files, list_folders, list_frames, read_index_image
from .records import ConversionError, read_json, require

VOID = 255


def convert_vos(
    images: str | os.PathLike,
    masks: str | os.PathLike,
    meta: str | os.PathLike | None = None,
    videos: Sequence[str] | None = None,
    class_name: str = "object",
    classes: Sequence[str] | None = None,
    progress: Progress = no_progress,
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
        class_name: Class of all objects without ``meta``.
        classes: Class names in the order of their category ids, so that several sets get the same
            ids; those that occur, by name, by default.
        progress: Shows progress over the videos.

    Returns:
        Conversion: The official JSON; the masks of objects do not overlap.

    Raises:
        ConversionError: If a PNG is not indexed or not of its frame's size, a frame is missing,
            or ``meta`` does not fit; the message names the file.
        OSError: If a file cannot be read.
    """
    images, masks = Path(images), Path(masks)
    if classes is None and meta is None:
        classes = [class_name]
    builder = YTVISBuilder("indexed PNGs (DAVIS, YouTube-VOS)", images, classes)
    listed = _read_meta(Path(meta)) if meta else None
    names = videos if videos is not None else [folder.name for folder in list_folders(masks)]
    for name in progress(list(names), "video"):
        pngs = _list_masks(masks / name)
        frames = {path.stem: path for path in list_frames(images / name)}
        for png in pngs:
            if png.stem not in frames:
                raise ConversionError(f"{png}: there is no frame of this name in {images / name}")
        builder.left_out["frames without a PNG"] += len(frames) - len(pngs)
        video = builder.add_video([frames[png.stem] for png in pngs])
        tracks = _read_tracks(pngs, (video["height"], video["width"]), builder)
        if not tracks:
            builder.notes.append(f"no object is drawn in video {name}")
        for id_ in sorted(tracks):
            label = class_name if listed is None else _class_of(listed, name, id_, meta)
            builder.add_track(video, label, tracks[id_])
        if listed is not None:
            drawn = {str(id_) for id_ in tracks}
            missing = len(set(listed.get(name, ())) - drawn)
            builder.left_out["objects of meta.json that are in no PNG"] += missing
    return builder.build(masks)


def _list_masks(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConversionError(f"folder of masks {folder} does not exist")
    pngs = list_files(folder, [".png"])
    if not pngs:
        raise ConversionError(f"{folder} has no PNG")
    return pngs


def _read_tracks(pngs: list[Path], size: tuple[int, int], builder: YTVISBuilder) -> dict:
    """Object id to frame index to mask."""
    tracks, grey_void = defaultdict(dict), None
    for frame, png in enumerate(pngs):
        id_map, mode = read_index_image(
            png, size, ("P", "L"), "indexed: the ids are lost once a PNG has been saved in colours"
        )
        rles = encode_ids(id_map)
        if rles.pop(VOID, None):
            builder.left_out["frames with void pixels, which become background"] += 1
            grey_void = png if mode == "L" else grey_void
        for id_, rle in rles.items():
            tracks[id_][frame] = rle
    if not tracks and grey_void:
        raise ConversionError(
            f"{grey_void} is grey with no value but 0 and 255: a mask of one object, as in DAVIS "
            "2016, does not say which; use the indexed PNGs of DAVIS 2017"
        )
    return tracks


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
    if str(id_) not in listed.get(video, ()):
        raise ConversionError(f"{where} is drawn in the PNGs but is not listed")
    name = listed[video][str(id_)]
    if not isinstance(name, str):
        raise ConversionError(
            f"{where} has no category, as in the validation set; without --meta all objects get "
            "one class"
        )
    return name
