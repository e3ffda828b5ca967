"""MOTS annotations (KITTI MOTS, MOTSChallenge), as PNG or txt, to the official YouTube-VIS JSON.

Both forms hold the same (Voigtlaender et al., "MOTS: Multi-Object Tracking and Segmentation", CVPR
2019). A 16-bit PNG has in each pixel 0 for background or an object id of ``class * 1000 +
instance``; 10000 is a region to ignore. A txt has a line ``frame id class height width rle`` for
each object and frame, with COCO's compressed RLE; the region to ignore is of class 10 there.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmvis_plugin.files import natural_key
from mmvis_plugin.ytvis.reader import Progress, no_progress
from mmvis_plugin.ytvis.rle import RLEError, mask_areas

from .builder import Conversion, YTVISBuilder
from .encoding import encode_ids, plain_counts
from .frames import list_files, list_frames, read_index_image
from .records import ConversionError

CLASSES = {1: "car", 2: "pedestrian"}
IGNORE_REGION = 10000
LINE = re.compile(r"\s*" + r"(\d{1,9})\s+" * 5 + r"(\S+)\s*", re.ASCII)


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
    builder = YTVISBuilder("MOTS", images, list(classes.values()))
    sources = _find_sources(annotations)
    if sequences is not None:
        absent = [name for name in sequences if name not in sources]
        if absent:
            raise ConversionError(f"{annotations} has no annotations of sequence {absent[0]}")
        sources = {name: sources[name] for name in sequences}
    for name, source in progress(list(sources.items()), "sequence"):
        frames = _list_sequence(images / name, source)
        video = builder.add_video(frames)
        read = _read_pngs if source.is_dir() else _read_txt
        tracks = read(source, _frame_numbers(frames), (video["height"], video["width"]))
        for id_ in sorted(tracks):
            if id_ == IGNORE_REGION:
                for class_name in classes.values():
                    builder.add_track(video, class_name, tracks[id_], crowd=True)
            elif id_ // 1000 in classes:
                builder.add_track(video, classes[id_ // 1000], tracks[id_])
            else:
                known = ", ".join(f"{number} ({text})" for number, text in classes.items())
                raise ConversionError(
                    f"{source}: object {id_} is of class {id_ // 1000}; the known classes are "
                    f"{known}: name the others with --classes NUMBER=NAME"
                )
    return builder.build(annotations)


def _list_sequence(folder: Path, source: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConversionError(
            f"{source}: there is no folder {folder} with the frames of sequence {folder.name}; if "
            "this is no sequence, move it elsewhere or choose the sequences with --sequences"
        )
    return list_frames(folder / "img1" if (folder / "img1").is_dir() else folder)


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


def _read_pngs(folder: Path, index_of: dict[int, int], size: tuple[int, int]) -> dict:
    """Object id to frame index to mask."""
    pngs = list_files(folder, [".png"])
    numbers = _frame_numbers(pngs)
    for number in sorted(set(numbers) ^ set(index_of)):
        what = "frame" if number in numbers else "PNG"
        raise ConversionError(f"{folder}: there is no {what} of number {number}")
    tracks = defaultdict(dict)
    for path in pngs:
        id_map, _ = read_index_image(
            path, size, ("I", "I;16", "I;16B"), "a PNG of 16 bits and one channel"
        )
        for id_, rle in encode_ids(id_map).items():
            tracks[id_][index_of[int(path.stem)]] = rle
    return tracks


def _read_txt(path: Path, index_of: dict[int, int], size: tuple[int, int]) -> dict:
    """Object id to frame index to mask."""
    tracks, texts, where_of = defaultdict(dict), [], []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        match = LINE.fullmatch(line)
        if not match:
            raise ConversionError(
                f"{where}: expected `frame id class height width rle`, got {line!r:.80}"
            )
        frame, id_, class_number, height, width = map(int, match.groups()[:5])
        if frame not in index_of:
            raise ConversionError(f"{where}: there is no frame of number {frame}")
        if (height, width) != size:
            raise ConversionError(
                f"{where}: the mask is {width} x {height} pixels, the frame {size[1]} x {size[0]}"
            )
        if class_number != id_ // 1000:
            raise ConversionError(
                f"{where}: id {id_} belongs to class {id_ // 1000}, but the class is {class_number}"
            )
        if index_of[frame] in tracks[id_]:
            raise ConversionError(f"{where}: object {id_} occurs twice in frame {frame}")
        tracks[id_][index_of[frame]] = rle = dict(size=list(size), counts=plain_counts(match[6]))
        texts.append(rle["counts"])
        where_of.append(where)
    try:
        mask_areas(texts, *size)
    except RLEError as error:
        raise ConversionError(f"{where_of[error.index]}: {error}") from error
    return tracks
