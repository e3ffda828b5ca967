"""MOTS annotations (KITTI MOTS, MOTSChallenge), as PNG or txt, to the official YouTube-VIS JSON.

Both forms hold the same (Voigtlaender et al., "MOTS: Multi-Object Tracking and Segmentation", CVPR
2019). A 16-bit PNG has in each pixel 0 for background or an object id of ``class * 1000 +
instance``; 10000 is a region to ignore. A txt has a line ``frame id class height width rle`` for
each object and frame, with COCO's compressed RLE; the region to ignore is of class 10 there.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmvis_plugin.files import natural_key
from mmvis_plugin.ytvis.rle import rle_pixels

from .builder import Conversion, ConversionError, Progress, YTVISBuilder, encode_ids, no_progress
from .frames import common_size, list_files, list_frames, relative_names

CLASSES = {1: "car", 2: "pedestrian"}
IGNORE_REGION = 10000


def convert_mots(
    images: str | os.PathLike,
    annotations: str | os.PathLike,
    classes: Mapping[int, str] | None = None,
    sequences: Sequence[str] | None = None,
    progress: Progress = no_progress,
) -> Conversion:
    """Convert MOTS annotations.

    A region to ignore becomes one crowd annotation for each class, as it hides objects of any.

    Args:
        images: Folder with the frames of each sequence in ``SEQUENCE`` (KITTI MOTS) or
            ``SEQUENCE/img1`` (MOTSChallenge). A frame's number is its file name's.
        annotations: Folder with ``SEQUENCE/*.png``, ``SEQUENCE.txt`` or ``SEQUENCE/gt/gt.txt``.
        classes: MOTS class number to class name; 1 is car and 2 pedestrian by default.
        sequences: Names of the sequences to convert; all that are annotated by default.
        progress: Shows progress over the sequences.

    Returns:
        Conversion: The official JSON, with all frames of the sequences.

    Raises:
        ConversionError: If a frame or its annotation is missing, sizes differ, a class is unknown
            or a line is malformed; the message names the file and line.
        OSError: If a file cannot be read.
    """
    images, annotations = Path(images), Path(annotations)
    classes = dict(CLASSES if classes is None else classes)
    builder = YTVISBuilder("MOTS", list(classes.values()))
    sources = _find_sources(annotations)
    if sequences is not None:
        absent = [name for name in sequences if name not in sources]
        if absent:
            raise ConversionError(f"{annotations} has no annotations of sequence {absent[0]}")
        sources = {name: sources[name] for name in sequences}
    for name, source in progress(list(sources.items()), "sequence"):
        folder = images / name
        if not folder.is_dir():
            raise ConversionError(
                f"{source}: there is no folder {folder} with the frames of sequence {name}; if "
                "this is no sequence, move it elsewhere or name the sequences to convert"
            )
        if (folder / "img1").is_dir():
            folder = folder / "img1"
        frames = list_frames(folder)
        height, width = common_size(frames)
        index_of = _frame_numbers(frames)
        read = _read_pngs if source.is_dir() else _read_txt
        tracks = read(source, index_of, height, width)
        video_id = builder.add_video(relative_names(frames, images), height, width)
        for id_ in sorted(tracks):
            if id_ == IGNORE_REGION:
                for class_name in classes.values():
                    builder.add_track(video_id, class_name, tracks[id_], crowd=True)
                continue
            if id_ // 1000 not in classes:
                raise ConversionError(
                    f"{source}: object {id_} is of class {id_ // 1000}; the known classes are "
                    f"{', '.join(f'{number} ({text})' for number, text in classes.items())}"
                )
            builder.add_track(video_id, classes[id_ // 1000], tracks[id_])
    return builder.build()


def _find_sources(folder: Path) -> dict[str, Path]:
    """Sequence name to its txt or its folder of PNGs, in natural order of the names."""
    if not folder.is_dir():
        raise ConversionError(f"folder of annotations {folder} does not exist")
    sources = {}
    for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if path.is_dir() and (path / "gt" / "gt.txt").is_file():
            name, source = path.name, path / "gt" / "gt.txt"
        elif path.is_dir() and list_files(path, [".png"]):
            name, source = path.name, path
        elif path.suffix == ".txt":
            name, source = path.stem, path
        else:
            continue
        if name in sources:
            raise ConversionError(
                f"{sources[name]} and {source} are both of sequence {name}: remove one of them"
            )
        sources[name] = source
    if not sources:
        raise ConversionError(
            f"{folder} has no SEQUENCE/*.png, SEQUENCE.txt or SEQUENCE/gt/gt.txt in it"
        )
    return sources


def _frame_numbers(frames: Sequence[Path]) -> dict[int, int]:
    """Frame number, as in the file's name, to index."""
    for path in frames:
        if not path.stem.isdecimal():
            raise ConversionError(f"{path}: the frames' names must be numbers, as in MOTS")
    index_of = {int(path.stem): index for index, path in enumerate(frames)}
    if len(index_of) < len(frames):
        raise ConversionError(f"{frames[0].parent}: two frames have the same number")
    return index_of


def _read_pngs(folder: Path, index_of: dict[int, int], height: int, width: int) -> dict:
    """Object id to frame index to mask."""
    pngs = list_files(folder, [".png"])
    numbers = _frame_numbers(pngs)
    for number in sorted(set(numbers) ^ set(index_of)):
        what = "frame" if number in numbers else "PNG"
        raise ConversionError(f"{folder}: there is no {what} of number {number}")
    tracks = defaultdict(dict)
    for path in pngs:
        id_map = _read_ids(path, height, width)
        ids = [id_ for id_ in np.unique(id_map).tolist() if id_]
        for id_, rle in zip(ids, encode_ids(id_map, ids), strict=True):
            tracks[id_][index_of[int(path.stem)]] = rle
    return tracks


def _read_ids(path: Path, height: int, width: int) -> np.ndarray:
    """Object id of every pixel: (height, width), integers of 16 bits or more."""
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            id_map = np.asarray(picture)
    except Exception as error:  # Pillow's plugins raise many kinds for broken files
        raise ConversionError(f"{path} cannot be read as an image: {error}") from error
    if mode not in ("I", "I;16", "I;16B"):
        raise ConversionError(f"{path} is not a PNG of 16 bits and one channel (mode {mode})")
    if id_map.shape != (height, width):
        raise ConversionError(
            f"{path} is {id_map.shape[1]} x {id_map.shape[0]} pixels, its frame {width} x {height}"
        )
    return id_map


def _read_txt(path: Path, index_of: dict[int, int], height: int, width: int) -> dict:
    """Object id to frame index to mask."""
    tracks, lines = defaultdict(dict), []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        fields = line.split()
        if len(fields) != 6 or not all(field.isdecimal() for field in fields[:5]):
            raise ConversionError(
                f"{where}: expected `frame id class height width rle`, got {line!r:.80}"
            )
        frame, id_, class_number, *size = map(int, fields[:5])
        if frame not in index_of:
            raise ConversionError(f"{where}: there is no frame of number {frame}")
        if size != [height, width]:
            raise ConversionError(
                f"{where}: the mask is {size[1]} x {size[0]} pixels, the frame {width} x {height}"
            )
        if class_number != id_ // 1000:
            raise ConversionError(
                f"{where}: id {id_} belongs to class {id_ // 1000}, but the class is {class_number}"
            )
        masks = tracks[id_]
        if index_of[frame] in masks:
            raise ConversionError(f"{where}: object {id_} occurs twice in frame {frame}")
        masks[index_of[frame]] = dict(size=size, counts=fields[5])
        lines.append((number, fields[5]))
    pixels = rle_pixels([counts for _, counts in lines]) if lines else np.zeros(0, int)
    wrong = np.flatnonzero(pixels != height * width)
    if len(wrong):
        raise ConversionError(
            f"{path}: line {lines[wrong[0]][0]}: the RLE does not describe a mask of "
            f"{width} x {height} pixels"
        )
    return tracks
