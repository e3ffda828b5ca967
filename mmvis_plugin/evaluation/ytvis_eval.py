"""Scoring of files with the YouTube-VIS protocol (:mod:`mmvis_plugin.evaluation.protocol`).

:func:`load_ground_truth` and :func:`load_results` read and check files, :func:`evaluate_ytvis`
scores them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from mmvis_plugin.ytvis.json_file import constants_message, parse_json, without_garbage_collection
from mmvis_plugin.ytvis.masks import parse_counts
from mmvis_plugin.ytvis.problems import FormatError, show
from mmvis_plugin.ytvis.reader import YTVIS, TrackRecord, read_ytvis
from mmvis_plugin.ytvis.rle import RLEError
from mmvis_plugin.ytvis.values import is_id, is_number

from .protocol import FIGURES, accumulate, match_videos
from .report import text_table
from .tracks import GroundTruth, Track, Video


@without_garbage_collection()
def evaluate_ytvis(
    gt: GroundTruth | dict | str | PathLike,
    results: Sequence[dict] | str | PathLike,
    video_ids: Iterable | None = None,
    num_threads: int = 1,
) -> dict:
    """Score mask tracks with the YouTube-VIS protocol.

    Args:
        gt: Annotations in the official layout (2019, 2021, OVIS): a path, the loaded JSON, or what
            :func:`load_ground_truth` made of it. Masks may be polygons, uncompressed or compressed
            RLE, and null where the object is absent.
        results: Entries ``{video_id, category_id, score, segmentations}``, the last with an RLE or
            null per frame of the video: a list, or the path of a ``results.json``.
        video_ids: Score these videos only. All of them by default.
        num_threads: As in :func:`match_videos`.

    Returns:
        dict: ``AP AP50 AP75 APs APm APl AR1 AR10 AR100``, each in [0, 1] or -1 where no annotation
        defines it (no object of that size), and ``per_class``: the same figures by class name.
        Without any results the figures are 0.

    Raises:
        FormatError: The annotations or an entry of the results are malformed, or there are no
            annotations to score with; the message says where.
    """
    if not isinstance(gt, GroundTruth):
        gt = load_ground_truth(gt)
    if not gt.tracks:
        raise FormatError(
            "there are no annotations to score with. The official YouTube-VIS and OVIS validation "
            "and test sets come without: send results.json to the benchmark's server, or score "
            "on videos held out from the training set."
        )
    matches = match_videos(gt, load_results(results, gt), video_ids, num_threads)
    return accumulate(matches, list(gt.categories.values()))


def format_table(stats: dict) -> str:
    """Lay out the figures of :func:`evaluate_ytvis` as a plain-text table.

    Args:
        stats: What :func:`evaluate_ytvis` returned.

    Returns:
        str: A row for all classes and one per class; ``-`` where a figure is not defined.
    """
    rows = [
        [str(name), *("-" if row[f] < 0 else f"{row[f]:.3f}" for f in FIGURES)]
        for name, row in [("all", stats), *stats["per_class"].items()]
    ]
    return text_table(["class", *FIGURES], rows)


# --- reading ----------------------------------------------------------------------------------


def load_ground_truth(source: YTVIS | dict | str | PathLike) -> GroundTruth:
    """Read and check annotations in the official YouTube-VIS layout.

    A JSON without annotations (the key missing, null or an empty list), like those of the official
    validation sets, gives a :class:`GroundTruth` without tracks.

    Args:
        source: A path, the loaded JSON, or its records. It is not changed.

    Returns:
        GroundTruth: Its masks as compressed RLE.

    Raises:
        FormatError: The file is refused (:mod:`mmvis_plugin.ytvis.reader` says when); the message
            names file, video, annotation and frame.
    """
    data = source if isinstance(source, YTVIS) else read_ytvis(source)
    videos = {key: Video(v.height, v.width, v.length) for key, v in data.videos.items()}
    tracks = defaultdict(list)
    for record in data.tracks:
        track = Track(
            record.counts,
            videos[record.video.id],
            f"{data.name}: video {record.video.id}: annotation {record.id}",
            crowd=record.crowd,
            declared_area=_declared_area(record),
            areas=record.areas,
        )
        tracks[record.video.id, record.category_id].append(track)
    tags = defaultdict(set)
    for video in data.videos.values():
        for tag in video.tags:
            tags[tag].add(video.id)
    return GroundTruth(
        _by_id(videos), _by_id(data.categories), dict(tracks), dict(sorted(tags.items()))
    )


def _by_id(table: dict) -> dict:
    return dict(sorted(table.items(), key=lambda entry: (isinstance(entry[0], str), entry[0])))


def _declared_area(record: TrackRecord) -> float | None:
    """Mean of the JSON's own areas, which the official protocol uses; None without any."""
    present = [area for area in record.given_areas or () if area]
    return float(sum(present) / len(present)) if present else None


@without_garbage_collection()
def load_results(
    source: Sequence[dict] | str | PathLike, gt: GroundTruth
) -> dict[tuple, list[Track]]:
    """Read and check results.

    Args:
        source: Entries ``{video_id, category_id, score, segmentations}``, or the path of a JSON
            with a list of them.
        gt: The annotations they belong to.

    Returns:
        dict: Tracks by (video id, category id), in their order.

    Raises:
        FormatError: An entry is malformed or does not fit the annotations; the message says which.
            The text of an RLE is checked when it is first measured.
    """
    results, name, constants = source, "results", []
    if isinstance(source, (str, PathLike)):
        name = fspath(source)
        results, constants = parse_json(Path(source).read_bytes(), name, keep_lists=False)
    if not isinstance(results, Sequence) or isinstance(results, (str, bytes)):
        raise FormatError(f"{name}: expected a list of entries, got {show(results)}")
    tracks = defaultdict(list)
    for index, item in enumerate(results):
        key, track = _result(item, f"{name}[{index}]", gt)
        tracks[key].append(track)
    if constants:  # where they are in something that is read, that was said with its place
        raise FormatError(f"{name}: {constants_message(constants)}")
    return dict(tracks)


def _result(item: Any, where: str, gt: GroundTruth) -> tuple[tuple, Track]:
    try:
        key = item["video_id"], item["category_id"]
        score, masks = item["score"], item["segmentations"]
    except (TypeError, KeyError, IndexError):
        raise FormatError(
            f"{where} is not an object with the keys video_id, category_id, score, segmentations"
        ) from None
    where = f"{where} (video_id {show(key[0])}, category_id {show(key[1])})"
    if not is_id(key[0]) or key[0] not in gt.videos:
        raise FormatError(f"{where}: video_id {show(key[0])} is not in the annotation file")
    if not is_id(key[1]) or key[1] not in gt.categories:
        raise FormatError(f"{where}: category_id {show(key[1])} is not in the annotation file")
    if not is_number(score) or not abs(score) <= sys.float_info.max:
        raise FormatError(f"{where}: score {show(score)} is not a finite number")
    video = gt.videos[key[0]]
    try:
        counts = parse_counts(masks, video.length, video.height, video.width)
    except RLEError as error:
        place = "'segmentations'" if error.index is None else f"frame {error.index}:"
        raise FormatError(f"{where}, {place} {error}") from None
    return key, Track(counts, video, where, score=float(score))
