"""The YouTube-VIS protocol: average precision of mask tracks.

A predicted track and an annotated one are compared over the whole video: the IoU is the sum of the
intersections in all frames over the sum of the unions, so that a frame in which only one of them
is present adds its area to the union. On these IoUs the rules are COCO's: 10 thresholds, 101
recalls, at most 100 tracks per video and class, crowd annotations ignored.

Masks stay run-length encoded throughout. As ``sum(union) = area + area - sum(intersection)``, only
frames in which both tracks are present are intersected, and all pairs of a class at once.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_TRACKS = (1, 10, 100)  # per video and class
# A track's size is the mean of its mask areas, in pixels; limits are inclusive.
AREA_RANGES = {
    "all": (0, 1e5**2),
    "small": (0, 128**2),
    "medium": (128**2, 256**2),
    "large": (256**2, 1e5**2),
}
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")

_AREA_LOW, _AREA_HIGH = np.array(list(AREA_RANGES.values())).T
_DIMS_MATCH = (len(AREA_RANGES), len(IOU_THRESHOLDS))


class Video(NamedTuple):
    """A video's size in pixels and its number of frames."""

    height: int
    width: int
    length: int


class Track(NamedTuple):
    """One object's masks over a video.

    ``rles`` has a compressed COCO RLE per frame, empty where the object is absent, ``areas``
    (length,) the pixels of each; ``mean_area`` places the track in an area range.
    """

    rles: list[dict]
    areas: np.ndarray
    mean_area: float
    score: float = 1.0
    crowd: bool = False


@dataclass(frozen=True)
class GroundTruth:
    """A checked YouTube-VIS JSON, ready to score any number of results.

    Attributes:
        videos: Size and length by video id, in order of the ids.
        categories: Class name by category id, in order of the ids.
        tracks: Annotated tracks by (video id, category id).
    """

    videos: dict[Hashable, Video]
    categories: dict[Hashable, str]
    tracks: dict[tuple, list[Track]]


class _Matches(NamedTuple):
    """How the D tracks of one video and class were matched, best score first."""

    scores: np.ndarray  # (D,)
    matched: np.ndarray  # (areas, thresholds, D) bool
    ignored: np.ndarray  # (areas, thresholds, D) bool: neither right nor wrong
    num_objects: np.ndarray  # (areas,) annotations that count


def evaluate_ytvis(
    gt: GroundTruth | dict | str | PathLike,
    results: Sequence[dict] | str | PathLike,
    video_ids: Iterable | None = None,
) -> dict:
    """Score mask tracks with the YouTube-VIS protocol.

    Args:
        gt: Annotations in the official layout (2019, 2021, OVIS): a path, the loaded JSON, or what
            :func:`load_ground_truth` made of it. Masks may be polygons, uncompressed or compressed
            RLE, and null where the object is absent.
        results: Entries ``{video_id, category_id, score, segmentations}``, the last with an RLE or
            null per frame of the video: a list, or the path of a ``results.json``.
        video_ids: Score these videos only. All of them by default.

    Returns:
        dict: ``AP AP50 AP75 APs APm APl AR1 AR10 AR100``, each in [0, 1] or -1 where no annotation
        defines it (no object of that size), and ``per_class``: the same figures by class name.
        Without any results the figures are 0.

    Raises:
        ValueError: The annotations or an entry of the results are malformed, or there are no
            annotations to score with; the message says where.
    """
    if not isinstance(gt, GroundTruth):
        gt = load_ground_truth(gt)
    if not gt.tracks:
        raise ValueError(
            "there are no annotations to score with. The official YouTube-VIS and OVIS validation "
            "and test sets come without: send results.json to the benchmark's server, or score "
            "on videos held out from the training set."
        )
    tracks = _parse_results(results, gt)
    videos = _select_videos(gt, video_ids)

    precision = -np.ones((len(gt.categories), *_DIMS_MATCH, len(RECALLS)))
    recall = -np.ones((len(gt.categories), len(MAX_TRACKS), len(IOU_THRESHOLDS)))
    for k, category in enumerate(gt.categories):
        matches = [
            _match_tracks(tracks.get(key, []), gt.tracks.get(key, []))
            for key in ((video, category) for video in videos)
            if key in tracks or key in gt.tracks
        ]
        if matches:
            precision[k], recall[k] = _accumulate(matches)

    per_class = {
        name: _summarise(precision[k : k + 1], recall[k : k + 1])
        for k, name in enumerate(gt.categories.values())
    }
    return {**_summarise(precision, recall), "per_class": per_class}


def format_table(stats: dict) -> str:
    """Lay out the figures of :func:`evaluate_ytvis` as a plain-text table.

    Args:
        stats: What :func:`evaluate_ytvis` returned.

    Returns:
        str: A row for all classes and one per class; ``-`` where a figure is not defined.
    """
    names = ["all", *stats["per_class"]]
    figures = [stats, *stats["per_class"].values()]
    rows = [["class", *FIGURES]]
    for name, row in zip(names, figures, strict=True):
        rows.append([str(name), *("-" if row[f] < 0 else f"{row[f]:.3f}" for f in FIGURES)])
    width = max(len(row[0]) for row in rows)
    lines = [row[0].ljust(width) + "".join(cell.rjust(7) for cell in row[1:]) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def load_ground_truth(source: dict | str | PathLike) -> GroundTruth:
    """Read and check annotations in the official YouTube-VIS layout.

    A JSON without annotations (the key missing, null or an empty list), like those of the official
    validation sets, gives a :class:`GroundTruth` without tracks.

    Args:
        source: A path, or the loaded JSON. It is not changed.

    Returns:
        GroundTruth: Its masks as compressed RLE.

    Raises:
        ValueError: Something is missing or does not fit; the message names file, video, annotation
            and frame.
    """
    data, name = _load_json(source, "annotations")
    if not isinstance(data, dict):
        raise ValueError(f"{name}: expected a JSON object, got {type(data).__name__}")
    videos = _by_id(
        (item["id"], Video(item["height"], item["width"], _video_length(item, where)), where)
        for item, where in _items(data, "videos", ("id", "height", "width"), name)
    )
    categories = _by_id(
        (item["id"], item["name"], where)
        for item, where in _items(data, "categories", ("id", "name"), name)
    )
    if len(set(categories.values())) < len(categories):
        raise ValueError(f"{name}: two categories have the same name")

    tracks = defaultdict(list)
    if data.get("annotations"):
        keys = ("video_id", "category_id", "segmentations")
        for item, where in _items(data, "annotations", keys, name):
            video = _look_up(videos, item["video_id"], "video_id", where)
            _look_up(categories, item["category_id"], "category_id", where)
            rles, areas = _parse_masks(item["segmentations"], video, where)
            mean_area = _declared_area(item.get("areas"), where)
            if mean_area is None:
                mean_area = _mean_area(areas)
            track = Track(rles, areas, mean_area, crowd=bool(item.get("iscrowd", False)))
            tracks[item["video_id"], item["category_id"]].append(track)
    return GroundTruth(videos, categories, dict(tracks))


def _load_json(source: Any, what: str) -> tuple[Any, str]:
    """Give the content of a path, or ``source`` itself, and its name for messages."""
    if not isinstance(source, (str, PathLike)):
        return source, what
    name = fspath(source)
    try:
        with open(name, encoding="utf-8") as file:
            return json.load(file), name
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: not a JSON file ({error})") from error


def _items(data: dict, key: str, required: Sequence[str], name: str):
    """Yield each item of ``data[key]`` with words that say where it is."""
    if not isinstance(data.get(key), list):
        raise ValueError(f"{name}: no list under the key '{key}'")
    for index, item in enumerate(data[key]):
        where = f"{name}: {key}[{index}]"
        if not isinstance(item, Mapping):
            raise ValueError(f"{where} is not an object")
        facts = [f"{k} {item[k]!r}" for k in ("id", "video_id") if k in item]
        where += f" ({', '.join(facts)})" if facts else ""
        for missing in required:
            if missing not in item:
                raise ValueError(f"{where} has no key '{missing}'")
        yield item, where


def _by_id(entries: Iterable[tuple]) -> dict:
    """Give ``{id: value}`` in order of the ids, from (id, value, where)."""
    table = {}
    for key, value, where in entries:
        if not isinstance(key, (int, str)):
            raise ValueError(f"{where}: the id is neither a number nor a string")
        if key in table:
            raise ValueError(f"{where}: the id is taken already")
        table[key] = value
    return dict(sorted(table.items(), key=lambda entry: (isinstance(entry[0], str), entry[0])))


def _video_length(item: Mapping, where: str) -> int:
    if "length" in item:
        return item["length"]
    if "file_names" in item:
        return len(item["file_names"])
    raise ValueError(f"{where} has neither 'length' nor 'file_names'")


def _look_up(table: dict, key: Any, name: str, where: str) -> Any:
    if not isinstance(key, Hashable) or key not in table:
        raise ValueError(f"{where}: {name} {key!r} is not in the annotation file")
    return table[key]


def _parse_results(results: Any, gt: GroundTruth) -> dict[tuple, list[Track]]:
    """Check the results and group them by (video id, category id)."""
    results, name = _load_json(results, "results")
    if not isinstance(results, Sequence):
        raise ValueError(f"{name}: expected a list of entries, got {type(results).__name__}")
    tracks = defaultdict(list)
    keys = ("video_id", "category_id", "score", "segmentations")
    for index, item in enumerate(results):
        where = f"{name}[{index}]"
        if not isinstance(item, Mapping) or any(key not in item for key in keys):
            raise ValueError(f"{where} is not an object with the keys {', '.join(keys)}")
        where += f" (video_id {item['video_id']!r}, category_id {item['category_id']!r})"
        video = _look_up(gt.videos, item["video_id"], "video_id", where)
        _look_up(gt.categories, item["category_id"], "category_id", where)
        score = item["score"]
        if not isinstance(score, Real) or not math.isfinite(score):
            raise ValueError(f"{where}: score {score!r} is not a finite number")
        rles, areas = _parse_masks(item["segmentations"], video, where)
        track = Track(rles, areas, _mean_area(areas), score=float(score))
        tracks[item["video_id"], item["category_id"]].append(track)
    return dict(tracks)


def _parse_masks(masks: Any, video: Video, where: str) -> tuple[list[dict], np.ndarray]:
    """Give a track's masks as compressed RLE, empty where it is absent, and their areas."""
    if not isinstance(masks, Sequence) or len(masks) != video.length:
        got = len(masks) if isinstance(masks, Sequence) else type(masks).__name__
        raise ValueError(
            f"{where}: 'segmentations' must be a list of {video.length}, one per frame, got {got}"
        )
    rles = [_empty_rle(video.height, video.width)] * video.length
    for frame, mask in enumerate(masks):
        if mask:
            try:
                rles[frame] = to_rle(mask, video.height, video.width)
            except ValueError as error:
                raise ValueError(f"{where}, frame {frame}: {error}") from None
    areas = np.array(mask_utils.area(rles), dtype=np.int64)
    too_large = areas > video.height * video.width
    if too_large.any():
        raise ValueError(f"{where}, frame {too_large.argmax()}: the RLE is longer than its size")
    return rles, areas


@lru_cache
def _empty_rle(height: int, width: int) -> dict:
    return mask_utils.encode(np.zeros((height, width), dtype=np.uint8, order="F"))


def to_rle(mask: Any, height: int, width: int) -> dict:
    """Give a polygon list, uncompressed or compressed RLE as compressed RLE."""
    if isinstance(mask, list):
        return _polygons_to_rle(mask, height, width)
    try:
        size, counts = list(mask["size"]), mask["counts"]
    except (TypeError, KeyError):
        raise ValueError("a mask is a list of polygons or has 'size' and 'counts'") from None
    if size != [height, width]:
        raise ValueError(f"RLE of size {size} in a video of [height, width] {[height, width]}")
    if isinstance(counts, list):
        valid = all(isinstance(run, (int, np.integer)) and run >= 0 for run in counts)
        if not valid or sum(counts) != height * width:
            raise ValueError(f"the runs of the RLE do not add up to {height} x {width} pixels")
        return mask_utils.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    if not isinstance(counts, (str, bytes)) or not counts:
        raise ValueError("the RLE's 'counts' is neither a non-empty string nor a list of runs")
    # A run's last character has bit 5 of (code - 48) clear; the C decoder reads on if it is set.
    if (ord(counts[-1:]) - 48) & 0x20:
        raise ValueError("the RLE's 'counts' is cut off")
    return mask


def _polygons_to_rle(polygons: list, height: int, width: int) -> dict:
    for polygon in polygons:
        try:
            points = np.asarray(polygon, dtype=float)
        except (TypeError, ValueError):
            points = np.empty(0)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
            raise ValueError("a polygon is a list x0, y0, x1, y1, ... of at least three points")
    return mask_utils.merge(mask_utils.frPyObjects(polygons, height, width))


def _mean_area(areas: np.ndarray) -> float:
    """Mean over the frames in which the object is present; 0 where it never is."""
    return float(areas.sum() / max(np.count_nonzero(areas), 1))


def _declared_area(areas: Any, where: str) -> float | None:
    """Mean of the JSON's own areas, which the official protocol goes by; None without any."""
    if areas is None:
        return None
    try:
        present = [float(area) for area in areas if area]
    except (TypeError, ValueError):
        raise ValueError(f"{where}: 'areas' must hold numbers and nulls") from None
    return float(np.mean(present)) if present else None


def _select_videos(gt: GroundTruth, video_ids: Iterable | None) -> list:
    """Give the videos to score, by id: their order decides between equal scores."""
    if video_ids is None:
        return list(gt.videos)
    chosen = set(video_ids)
    unknown = sorted(map(repr, chosen - gt.videos.keys()))
    if unknown:
        raise ValueError(f"video_ids that are not in the annotation file: {', '.join(unknown)}")
    return [video for video in gt.videos if video in chosen]


def _match_tracks(tracks: list[Track], annotations: list[Track]) -> _Matches:
    """Match the tracks of one video and class to its annotations."""
    tracks = sorted(tracks, key=lambda track: -track.score)[: MAX_TRACKS[-1]]
    crowd = np.array([a.crowd for a in annotations], dtype=bool)
    gt_ignored = _outside_range(annotations) | crowd
    matched, ignored = _assign(_track_ious(tracks, annotations), gt_ignored, crowd)
    # A wrong track of another size is not counted against this size.
    ignored |= ~matched & _outside_range(tracks)[:, None]
    scores = np.array([track.score for track in tracks], dtype=float)
    return _Matches(scores, matched, ignored, np.count_nonzero(~gt_ignored, axis=1))


def _outside_range(tracks: list[Track]) -> np.ndarray:
    """Tell (areas, n) which tracks are outside each area range."""
    size = np.array([track.mean_area for track in tracks], dtype=float)
    return (size < _AREA_LOW[:, None]) | (size > _AREA_HIGH[:, None])


def _track_ious(tracks: list[Track], annotations: list[Track]) -> np.ndarray:
    """Spatio-temporal IoU of each track with each annotation, (D, G)."""
    if not tracks or not annotations:
        return np.zeros((len(tracks), len(annotations)))
    areas = np.array([track.areas for track in tracks])
    gt_areas = np.array([track.areas for track in annotations])
    frames = (areas.any(axis=0) & gt_areas.any(axis=0)).nonzero()[0]
    not_crowd = [0] * len(annotations)
    ious = np.zeros((len(frames), len(tracks), len(annotations)))
    for i, frame in enumerate(frames):
        ious[i] = mask_utils.iou(
            [track.rles[frame] for track in tracks],
            [track.rles[frame] for track in annotations],
            not_crowd,
        )
    total = areas.T[frames, :, None] + gt_areas.T[frames, None]
    # iou = i / (total - i) of two integers: rounding gives back the exact i.
    inter = np.rint(ious * total / (1 + ious)).sum(axis=0)
    union = areas.sum(1)[:, None] + gt_areas.sum(1) - inter
    return inter / np.maximum(union, 1)


def _assign(
    ious: np.ndarray, gt_ignored: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give each track, best score first, the free annotation it overlaps most.

    Annotations that count come before ignored ones, whatever the overlap, and the later one wins
    between equals. A crowd annotation takes any number of tracks.

    Args:
        ious: (D, G), tracks by falling score.
        gt_ignored: (areas, G), annotations that do not count in each area range.
        crowd: (G,).

    Returns:
        tuple: matched and ignored (matched to an ignored annotation), (areas, thresholds, D) bool.
    """
    num_tracks, num_gts = ious.shape
    matched = np.zeros((*_DIMS_MATCH, num_tracks), dtype=bool)
    ignored = np.zeros_like(matched)
    if not num_gts:
        return matched, ignored
    # Integer preferences instead of IoUs: the best candidate is then one argmax without ties.
    rank = ious.argsort(axis=1, kind="stable").argsort(axis=1)
    preference = rank[:, None] + num_gts * ~gt_ignored  # (D, areas, G)
    near = ious[:, None] >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]  # (D, thresholds, G)
    free = np.ones((*_DIMS_MATCH, num_gts), dtype=bool)
    for d in near.any(axis=(1, 2)).nonzero()[0]:
        candidates = np.where(near[d] & free, preference[d][:, None], -1)
        best = candidates.argmax(axis=-1)
        area, threshold = (candidates.max(axis=-1) >= 0).nonzero()
        chosen = best[area, threshold]
        matched[area, threshold, d] = True
        ignored[area, threshold, d] = gt_ignored[area, chosen]
        free[area, threshold, chosen] = crowd[chosen]
    return matched, ignored


def _accumulate(matches: list[_Matches]) -> tuple[np.ndarray, np.ndarray]:
    """Give one class's precision (areas, thresholds, recalls) and recall (max tracks, thresholds).

    Both are -1 where no annotation counts.
    """
    scores = np.concatenate([m.scores for m in matches])
    order = np.argsort(-scores, kind="stable")
    rank_in_video = np.concatenate([np.arange(len(m.scores)) for m in matches])[order]
    matched = np.concatenate([m.matched for m in matches], axis=-1)[..., order]
    counted = ~np.concatenate([m.ignored for m in matches], axis=-1)[..., order]
    right, wrong = matched & counted, ~matched & counted
    num_objects = np.sum([m.num_objects for m in matches], axis=0)

    precision = -np.ones((*_DIMS_MATCH, len(RECALLS)))
    for area in num_objects.nonzero()[0]:
        precision[area] = _precision_at_recalls(right[area], wrong[area], num_objects[area])
    recall = -np.ones((len(MAX_TRACKS), len(IOU_THRESHOLDS)))
    if num_objects[0]:
        for m, limit in enumerate(MAX_TRACKS):
            recall[m] = right[0][:, rank_in_video < limit].sum(axis=-1) / num_objects[0]
    return precision, recall


def _precision_at_recalls(right: np.ndarray, wrong: np.ndarray, num_objects: int) -> np.ndarray:
    """Best precision at each recall or beyond it, (thresholds, recalls), of (thresholds, n) flags.

    A recall that is never reached has precision 0.
    """
    right, wrong = right.cumsum(axis=1), wrong.cumsum(axis=1)
    recall = right / num_objects
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    result = np.zeros((len(right), len(RECALLS)))
    for row, (r, p) in enumerate(zip(recall, precision, strict=True)):
        position = np.searchsorted(r, RECALLS, side="left")
        reached = position < len(r)
        result[row, reached] = p[position[reached]]
    return result


def _summarise(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """Average (classes, areas, thresholds, recalls) and (classes, max tracks, thresholds)."""

    def mean(values: np.ndarray) -> float:
        values = values[values > -1]
        return float(values.mean()) if values.size else -1.0

    at = {name: index for index, name in enumerate(AREA_RANGES)}
    everything = precision[:, at["all"]]
    return {
        "AP": mean(everything),
        "AP50": mean(everything[:, np.isclose(IOU_THRESHOLDS, 0.5)]),
        "AP75": mean(everything[:, np.isclose(IOU_THRESHOLDS, 0.75)]),
        "APs": mean(precision[:, at["small"]]),
        "APm": mean(precision[:, at["medium"]]),
        "APl": mean(precision[:, at["large"]]),
        **{f"AR{limit}": mean(recall[:, m]) for m, limit in enumerate(MAX_TRACKS)},
    }
