"""The YouTube-VIS protocol: average precision of mask tracks.

A predicted track and an annotated one are compared over the whole video: the IoU is the sum of the
intersections in all frames over the sum of the unions, so that a frame in which only one of them
is present adds its area to the union. On these IoUs the rules are COCO's: 10 thresholds, 101
recalls, at most 100 tracks per video and class, crowd annotations ignored.

It is done in three steps, each of use by itself:

1. :func:`load_ground_truth` and :func:`load_results` read and check files.
2. :func:`match_videos` compares the tracks of each video. All that the figures need of a video is
   then in a small :class:`VideoMatches`.
3. :func:`accumulate` gives the figures of any list of these records.

Masks stay run-length encoded throughout (:mod:`mmvis_plugin.ytvis.rle`): the masks of a track,
one frame after another, are one long mask, and an IoU of tracks that of two such masks.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from numbers import Real
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np

from mmvis_plugin.garbage import without_garbage_collection
from mmvis_plugin.ytvis.rle import (
    RLEError,
    Runs,
    compiled,
    compress_lists,
    decode_runs,
    intersections,
    parse_counts,
    what_is_wrong,
)

from .report import text_table

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


class Video(NamedTuple):
    """A video's size in pixels and its number of frames."""

    height: int
    width: int
    length: int


class Track:
    """One object's masks over a video.

    Args:
        counts: The text of a compressed COCO RLE per frame, ``""`` where the object is absent.
        video: The video's size.
        where: Words that say where the track comes from, for messages.
        score: Confidence of a predicted track.
        crowd: An annotated track of several objects, which is not counted.
        declared_area: Size of an annotated track that the file states, in pixels.
    """

    __slots__ = ("counts", "video", "where", "score", "crowd", "declared_area", "_areas")

    def __init__(
        self,
        counts: list[str],
        video: Video,
        where: str = "track",
        score: float = 1.0,
        crowd: bool = False,
        declared_area: float | None = None,
    ) -> None:
        self.counts = counts
        self.video = video
        self.where = where
        self.score = score
        self.crowd = crowd
        self.declared_area = declared_area
        self._areas: np.ndarray | None = None

    @property
    def areas(self) -> np.ndarray:
        """Pixels of the mask in each frame, (length,) int64.

        Raises:
            ValueError: An RLE does not describe a mask of the video's size.
        """
        if self._areas is None:
            self._areas = _read_masks([self], [self.counts]).areas
        return self._areas

    @property
    def rles(self) -> list[dict | None]:
        """The masks as in a file: a compressed RLE per frame, None where the object is absent."""
        size = [self.video.height, self.video.width]
        return [{"size": size, "counts": text} if text else None for text in self.counts]

    @property
    def mean_area(self) -> float:
        """The track's size: what the file states, else the mean over the frames with a mask."""
        if self.declared_area is not None:
            return self.declared_area
        return float(self.areas.sum() / max(np.count_nonzero(self.areas), 1))


@dataclass(frozen=True)
class GroundTruth:
    """A checked YouTube-VIS JSON, ready to score any number of results.

    Attributes:
        videos: Size and length by video id, in order of the ids.
        categories: Class name by category id, in order of the ids.
        tracks: Annotated tracks by (video id, category id).
        tags: Ids of the videos with each tag, by its name; empty where the JSON's videos have no
            lists under ``tags``.
    """

    videos: dict[Hashable, Video]
    categories: dict[Hashable, str]
    tracks: dict[tuple, list[Track]]
    tags: dict[str, set[Hashable]]

    @cached_property
    def by_video(self) -> dict[Hashable, dict[Hashable, list[Track]]]:
        """The annotated tracks by video id and then by category id."""
        return _by_video(self.tracks)


class VideoMatches(NamedTuple):
    """How the D tracks of one video were matched to its G annotations, class by class.

    The D tracks are grouped by class, best score first; of a class there are at most 100.

    Attributes:
        video_id: Id of the video.
        labels: (D,) int64, each track's class: its place among the categories.
        scores: (D,) float64.
        ranks: (D,) int64, from 0, place among the tracks of the class by falling score.
        matched: (D, areas, thresholds) bool, whether the track has an annotation to itself.
        ignored: (D, areas, thresholds) bool, neither right nor wrong: matched to an annotation
            that does not count, or unmatched and of another size.
        object_labels: (G,) int64, each annotation's class.
        objects: (G, areas) bool, the annotations that count.
    """

    video_id: Hashable
    labels: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    object_labels: np.ndarray
    objects: np.ndarray


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


@without_garbage_collection()
def load_ground_truth(source: dict | str | PathLike) -> GroundTruth:
    """Read and check annotations in the official YouTube-VIS layout.

    A JSON without annotations (the key missing, null or an empty list), like those of the official
    validation sets, gives a :class:`GroundTruth` without tracks.

    Args:
        source: A path, or the loaded JSON. It is not changed.

    Returns:
        GroundTruth: Its masks as compressed RLE. The text of those that were compressed in the
        file is checked when they are first measured.

    Raises:
        ValueError: Something is missing or does not fit; the message names file, video, annotation
            and frame.
    """
    data, name = _load_json(source, "annotations")
    if not isinstance(data, dict):
        raise ValueError(f"{name}: expected a JSON object, got {type(data).__name__}")
    videos = _by_id(
        (item["id"], Video(*_video_size(item, where)), where)
        for item, where in _items(data, "videos", ("id", "height", "width"), name)
    )
    categories = _by_id(
        (item["id"], _category_name(item, where), where)
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
            track = Track(
                _parse_segmentations(item["segmentations"], video, where),
                video,
                where,
                crowd=bool(item.get("iscrowd", False)),
                declared_area=_declared_area(item.get("areas"), where),
            )
            tracks[item["video_id"], item["category_id"]].append(track)
    return GroundTruth(videos, categories, dict(tracks), _videos_by_tag(data["videos"], name))


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
        ValueError: An entry is malformed or does not fit the annotations; the message says which.
            The text of an RLE is checked when it is first measured.
    """
    results, name = _load_json(source, "results")
    if not isinstance(results, Sequence):
        raise ValueError(f"{name}: expected a list of entries, got {type(results).__name__}")
    tracks = defaultdict(list)
    for index, item in enumerate(results):
        try:
            video_id, category_id = item["video_id"], item["category_id"]
            score, masks = item["score"], item["segmentations"]
        except (TypeError, KeyError, IndexError):
            raise ValueError(
                f"{name}[{index}] is not an object with the keys video_id, category_id, score, "
                "segmentations"
            ) from None
        where = f"{name}[{index}] (video_id {video_id!r}, category_id {category_id!r})"
        video = _look_up(gt.videos, video_id, "video_id", where)
        _look_up(gt.categories, category_id, "category_id", where)
        if not _is_finite(score):
            raise ValueError(f"{where}: score {score!r} is not a finite number")
        counts = _parse_segmentations(masks, video, where)
        tracks[video_id, category_id].append(Track(counts, video, where, score=float(score)))
    return dict(tracks)


def _load_json(source: Any, what: str) -> tuple[Any, str]:
    """Give the content of a path, or ``source`` itself, and its name for messages."""
    if not isinstance(source, (str, PathLike)):
        return source, what
    name = fspath(source)
    try:
        with open(name, "rb") as file:
            return json.loads(compress_lists(file.read())), name
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


def _videos_by_tag(videos: list[dict], name: str) -> dict[str, set[Hashable]]:
    found = defaultdict(set)
    for video in videos:
        tags = video.get("tags") or []
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise ValueError(
                f"{name}: video {video['id']!r}: 'tags' must be a list of names, got {tags!r}"
            )
        for tag in tags:
            found[tag].add(video["id"])
    return dict(sorted(found.items()))


def _category_name(item: Mapping, where: str) -> str:
    if not isinstance(item["name"], str):
        raise ValueError(f"{where}: the name must be a text, got {item['name']!r}")
    return item["name"]


def _is_finite(score: Any) -> bool:
    try:
        return isinstance(score, (float, Real)) and math.isfinite(score)
    except OverflowError:  # of a whole number that no float can hold
        return False


def _video_size(item: Mapping, where: str) -> tuple[int, int, int]:
    """Height, width and length; a file may have them as 36.0."""
    if "length" not in item and "file_names" not in item:
        raise ValueError(f"{where} has neither 'length' nor 'file_names'")
    length = item["length"] if "length" in item else len(item["file_names"])
    sizes = {"height": item["height"], "width": item["width"], "length": length}
    for key, value in sizes.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and 1 <= value < math.inf and value % 1 == 0):
            raise ValueError(f"{where}: {key} must be a whole number of 1 or more, got {value!r}")
    if len(item.get("file_names", range(int(length)))) != length:
        raise ValueError(
            f"{where}: length is {length}, but there are {len(item['file_names'])} file_names"
        )
    return tuple(map(int, sizes.values()))


def _look_up(table: dict, key: Any, name: str, where: str) -> Any:
    try:
        return table[key]
    except (KeyError, TypeError):  # a list or the like cannot be a key
        raise ValueError(f"{where}: {name} {key!r} is not in the annotation file") from None


def _parse_segmentations(masks: Any, video: Video, where: str) -> list[str]:
    try:
        return parse_counts(masks, video.length, video.height, video.width)
    except RLEError as error:
        place = "'segmentations'" if error.index is None else f"frame {error.index}:"
        raise ValueError(f"{where}, {place} {error}") from None


def _declared_area(areas: Any, where: str) -> float | None:
    """Mean of the JSON's own areas, which the official protocol goes by; None without any."""
    if areas is None:
        return None
    try:
        present = [float(area) for area in areas if area]
    except (TypeError, ValueError):
        raise ValueError(f"{where}: 'areas' must hold numbers and nulls") from None
    return sum(present) / len(present) if present else None


# --- matching ---------------------------------------------------------------------------------


def match_videos(
    gt: GroundTruth,
    tracks: Mapping[tuple, list[Track]],
    video_ids: Iterable | None = None,
    num_threads: int = 1,
) -> list[VideoMatches]:
    """Match the tracks of each video to its annotations.

    Args:
        gt: The annotations. Tracks of categories that it does not list are left out, and so are
            annotations of these.
        tracks: Predicted tracks by (video id, category id), as :func:`load_results` gives them.
        video_ids: Match these videos only. All of them by default.
        num_threads: Videos that are worked on at once.

    Returns:
        list: A record per video, in order of their ids, which decides between equal scores.

    Raises:
        ValueError: An RLE does not describe a mask of its video's size, or a video is not in the
            annotations; the message says where.
    """
    labels = {category: label for label, category in enumerate(gt.categories)}
    predicted, annotated = _by_video(tracks), gt.by_video

    def match(video: Hashable) -> VideoMatches:
        return _match_video(
            video,
            _by_label(predicted.get(video, {}), labels, most=MAX_TRACKS[-1]),
            _by_label(annotated.get(video, {}), labels),
        )

    videos = _select_videos(gt, video_ids)
    if num_threads == 1:
        return list(map(match, videos))
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(match, videos))


def _by_video(tracks: Mapping[tuple, list[Track]]) -> dict[Hashable, dict]:
    table = defaultdict(dict)
    for (video, category), found in tracks.items():
        table[video][category] = found
    return dict(table)


def _select_videos(gt: GroundTruth, video_ids: Iterable | None) -> list:
    """Give the videos to score, by id: their order decides between equal scores."""
    if video_ids is None:
        return list(gt.videos)
    chosen = set(video_ids)
    unknown = sorted(map(repr, chosen - gt.videos.keys()))
    if unknown:
        raise ValueError(f"video_ids that are not in the annotation file: {', '.join(unknown)}")
    return [video for video in gt.videos if video in chosen]


def _by_label(
    tracks: dict[Hashable, list[Track]], labels: dict[Hashable, int], most: int | None = None
) -> tuple[np.ndarray, list[Track]]:
    """Put the tracks of all classes in one list, best score first within a class."""
    groups = sorted((labels[category], category) for category in tracks if category in labels)
    chosen = [sorted(tracks[c], key=lambda track: -track.score)[:most] for _, c in groups]
    numbers = np.repeat([label for label, _ in groups], [len(group) for group in chosen])
    return numbers.astype(np.int64), list(chain.from_iterable(chosen))


def _match_video(
    video_id: Hashable,
    predicted: tuple[np.ndarray, list[Track]],
    annotated: tuple[np.ndarray, list[Track]],
) -> VideoMatches:
    (labels, tracks), (object_labels, annotations) = predicted, annotated
    # Annotations of a track's class: those from first to stop.
    first = np.searchsorted(object_labels, labels, side="left")
    stop = np.searchsorted(object_labels, labels, side="right")
    # An annotation without tracks of its class need not be read, if its size is known.
    idle = np.searchsorted(labels, object_labels, side="left") == np.searchsorted(
        labels, object_labels, side="right"
    )
    sizes, spans, bounds = _measure(tracks, annotations, idle)
    ious = _track_ious(sizes[:, 0], spans, bounds, first, stop)

    outside = _outside_range(sizes[:, 1])
    crowd = np.array([annotation.crowd for annotation in annotations], dtype=bool)
    gt_ignored = outside[len(tracks) :] | crowd[:, None]
    matched = np.zeros((len(tracks), len(AREA_RANGES), len(IOU_THRESHOLDS)), dtype=bool)
    ignored = np.zeros_like(matched)
    _assign(ious, first, stop, gt_ignored, crowd, IOU_THRESHOLDS, matched, ignored)
    # A wrong track of another size is not counted against this size.
    ignored |= ~matched & outside[: len(tracks), :, None]
    return VideoMatches(
        video_id=video_id,
        labels=labels,
        scores=np.array([track.score for track in tracks], dtype=np.float64),
        ranks=np.arange(len(labels)) - np.searchsorted(labels, labels),
        matched=matched,
        ignored=ignored,
        object_labels=object_labels,
        objects=~gt_ignored,
    )


def _measure(
    tracks: list[Track], annotations: list[Track], idle: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the masks of the n tracks of a video, predicted and annotated.

    Args:
        tracks: Predicted.
        annotations: Annotated.
        idle: Flags of the annotations that are compared with no track. They count as without masks
            where the file states their size.

    Returns:
        tuple: Pixels in all frames and mean area, (n, 2) float64; and where the bounds of each
        track begin and end, (n, 2), with these bounds, as for
        :func:`~mmvis_plugin.ytvis.rle.intersections`.
    """
    everything = [*tracks, *annotations]
    if not everything:
        return np.zeros((0, 2)), np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.int64)
    length = everything[0].video.length
    absent = [""] * length
    skipped = [i and a.declared_area for i, a in zip(idle.tolist(), annotations, strict=True)]
    counts = [track.counts for track in tracks]
    counts += [absent if s else a.counts for s, a in zip(skipped, annotations, strict=True)]
    runs = _read_masks(everything, counts)

    areas = runs.areas.reshape(len(everything), length)
    pixels = areas.sum(axis=1)
    mean_areas = pixels / np.maximum(np.count_nonzero(areas, axis=1), 1)
    declared = np.array([track.declared_area for track in everything], dtype=float)  # None is nan
    sizes = np.stack([pixels, np.where(np.isnan(declared), mean_areas, declared)], axis=1)
    edges = np.append(0, runs.stops)[length * np.arange(len(everything) + 1)]
    return sizes, np.stack([edges[:-1], edges[1:]], axis=1), runs.bounds


def _read_masks(tracks: Sequence[Track], counts: Sequence[list[str]]) -> Runs:
    """Read the masks of tracks of one video, one track after another.

    The masks of a track are offset by the pixels of the frames before, so that their runs are those
    of one mask of the whole video.

    Args:
        tracks: One or more; for messages.
        counts: The texts of each.

    Returns:
        Runs: Of all frames of all tracks.

    Raises:
        ValueError: An RLE does not describe a mask of the video's size; says where.
    """
    height, width, length = tracks[0].video
    texts = list(chain.from_iterable(counts))
    runs = decode_runs(texts, np.tile(np.arange(length) * (height * width), len(tracks)))
    for index in np.flatnonzero(runs.pixels != height * width).tolist():
        if texts[index]:  # else the object is absent
            track, frame = divmod(index, length)
            reason = what_is_wrong(texts[index], runs.pixels[index], height, width)
            raise ValueError(f"{tracks[track].where}, frame {frame}: {reason}")
    return runs


def _track_ious(
    pixels: np.ndarray, spans: np.ndarray, bounds: np.ndarray, first: np.ndarray, stop: np.ndarray
) -> np.ndarray:
    """IoU of each of D tracks with the annotations of its class.

    Args:
        pixels: (D + G,) of the tracks and, after them, the annotations.
        spans: (D + G, 2), with ``bounds``: their runs.
        bounds: See ``spans``.
        first: (D,) first annotation of the track's class.
        stop: (D,) the one after the last.

    Returns:
        np.ndarray: (D, C), with C the most annotations of a class; row d has those from
        ``first[d]`` to ``stop[d]``, then zeros. It is 0 too where a track is so much larger than
        the annotation, or smaller, that they cannot match.
    """
    num_others = stop - first
    ious = np.zeros((len(first), num_others.max(initial=0)))
    row, column = (np.arange(ious.shape[1]) < num_others[:, None]).nonzero()
    smaller, larger = np.sort(pixels[[row, len(first) + first[row] + column]], axis=0)
    similar = smaller >= IOU_THRESHOLDS[0] * larger
    row, column = row[similar], column[similar]
    other = len(first) + first[row] + column
    shared = intersections(bounds, spans, row, other)
    ious[row, column] = shared / np.maximum(pixels[row] + pixels[other] - shared, 1)
    return ious


def _outside_range(sizes: np.ndarray) -> np.ndarray:
    """Tell (n, areas) which tracks are outside each area range."""
    return (sizes[:, None] < _AREA_LOW) | (sizes[:, None] > _AREA_HIGH)


@compiled
def _assign(ious, first, stop, gt_ignored, crowd, thresholds, matched, ignored):
    """Give each track, best score first, the free annotation it overlaps most.

    Annotations that count come before ignored ones, whatever the overlap, and the later one wins
    between equals. A crowd annotation takes any number of tracks.

    Args:
        ious: (D, C), of :func:`_track_ious`, like ``first`` and ``stop``.
        first: (D,).
        stop: (D,).
        gt_ignored: (G, areas) bool, annotations that do not count in each area range.
        crowd: (G,) bool.
        thresholds: (thresholds,) IoU that makes a match.
        matched: (D, areas, thresholds) bool, all False; filled in.
        ignored: Likewise: matched to an annotation that does not count.
    """
    num_tracks, num_areas, num_thresholds = matched.shape
    taken = np.zeros((len(crowd), num_areas, num_thresholds), dtype=np.bool_)
    for d in range(num_tracks):
        for a in range(num_areas):
            for t in range(num_thresholds):
                best, best_iou, best_counts = -1, thresholds[t], False
                for g in range(first[d], stop[d]):
                    if taken[g, a, t] and not crowd[g]:
                        continue
                    iou, counts = ious[d, g - first[d]], not gt_ignored[g, a]
                    least = best_iou if counts == best_counts else thresholds[t]
                    if iou >= least and counts >= best_counts:
                        best, best_iou, best_counts = g, iou, counts
                if best >= 0:
                    matched[d, a, t] = True
                    ignored[d, a, t] = not best_counts
                    taken[best, a, t] = True


# --- accumulating -----------------------------------------------------------------------------


def accumulate(matches: Iterable[VideoMatches], categories: Sequence[str]) -> dict:
    """Give the figures over some videos.

    Args:
        matches: Records of videos, of :func:`match_videos` or equal to it; a record may occur
            several times.
        categories: Names of the classes, in the order of the labels.

    Returns:
        dict: As :func:`evaluate_ytvis`.
    """
    classes = [_accumulate_class(ranked) for ranked in rank_tracks(list(matches), len(categories))]
    precision = np.array([precision for precision, _ in classes])
    recall = np.array([recall for _, recall in classes])
    per_class = {
        name: _summarise(precision[k : k + 1], recall[k : k + 1])
        for k, name in enumerate(categories)
    }
    return {**_summarise(precision, recall), "per_class": per_class}


class RankedTracks(NamedTuple):
    """The N tracks of one class over V videos, best score first.

    Attributes:
        videos: (N,) int64, the place of each track's video in the list.
        ranks: (N,) int64, from 0, place among the video's tracks of this class.
        right: (N, areas, thresholds) bool.
        wrong: (N, areas, thresholds) bool; a track can be neither.
        num_objects: (V, areas) int64, annotations that count.
    """

    videos: np.ndarray
    ranks: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    num_objects: np.ndarray


def rank_tracks(matches: Sequence[VideoMatches], num_classes: int) -> list[RankedTracks]:
    """Sort the tracks of all videos by class and score.

    Args:
        matches: Records of V videos.
        num_classes: Number of classes.

    Returns:
        list: The tracks of each class. Between equal scores the earlier video is first.
    """
    shape = (0, len(AREA_RANGES), len(IOU_THRESHOLDS))
    labels = _concatenate([m.labels for m in matches], np.int64)
    scores = _concatenate([m.scores for m in matches], np.float64)
    order = np.lexsort((-scores, labels))
    videos = np.repeat(np.arange(len(matches)), [len(m.labels) for m in matches])[order]
    ranks = _concatenate([m.ranks for m in matches], np.int64)[order]
    matched = _concatenate([m.matched for m in matches], bool, shape)[order]
    counted = ~_concatenate([m.ignored for m in matches], bool, shape)[order]
    right, wrong = matched & counted, ~matched & counted

    num_objects = np.zeros((num_classes, len(matches), len(AREA_RANGES)), dtype=np.int64)
    object_labels = _concatenate([m.object_labels for m in matches], np.int64)
    objects = _concatenate([m.objects for m in matches], bool, shape[:2])
    owners = np.repeat(np.arange(len(matches)), [len(m.object_labels) for m in matches])
    np.add.at(num_objects, (object_labels, owners), objects)

    edges = np.searchsorted(labels[order], np.arange(num_classes + 1))
    return [
        RankedTracks(*(x[start:stop] for x in (videos, ranks, right, wrong)), num_objects[k])
        for k, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True))
    ]


def _concatenate(arrays: list[np.ndarray], dtype: Any, shape: tuple = (0,)) -> np.ndarray:
    return np.concatenate([np.empty(shape, dtype), *arrays])


def average_precision(
    right: np.ndarray, wrong: np.ndarray, num_objects: np.ndarray | int
) -> np.ndarray:
    """Mean over the 101 recalls of the best precision at that recall or beyond it.

    A recall that is never reached has precision 0.

    Args:
        right: (N, ...) tracks that are right, best score first: flags, or how often each counts.
        wrong: Likewise, those that are wrong.
        num_objects: Annotations, more than 0; of a shape that broadcasts with ``...``.

    Returns:
        np.ndarray: (...) in [0, 1].
    """
    # Recall rises, and is followed by the best precision, only where some track is right.
    kept = right.any(axis=tuple(range(1, right.ndim)))
    wrong = wrong.cumsum(axis=0, dtype=np.int32)[kept]
    right = right[kept].cumsum(axis=0, dtype=np.int32)
    if not len(right):
        return np.zeros(right.shape[1:])
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # Each recall has the precision of the first track with which it is reached.
    reached = _recalls_reached(right, num_objects)
    reached[1:] -= reached[:-1].copy()
    return (precision * reached).sum(axis=0) / len(RECALLS)


def _recalls_reached(right: np.ndarray, num_objects: np.ndarray | int) -> np.ndarray:
    """Tell how many of the recalls are no greater than ``right / num_objects``."""
    numbers, row = np.unique(num_objects, return_inverse=True)
    recall = np.arange(numbers[-1] + 1) / numbers[:, None]
    table = np.searchsorted(RECALLS, recall, side="right").astype(np.int16)
    return table[row.reshape(np.shape(num_objects)), right]


def _accumulate_class(tracks: RankedTracks) -> tuple[np.ndarray, np.ndarray]:
    """Give AP (areas, thresholds) and recall (max tracks, thresholds) of one class.

    Both are -1 where no annotation counts.
    """
    precision = -np.ones((len(AREA_RANGES), len(IOU_THRESHOLDS)))
    recall = -np.ones((len(MAX_TRACKS), len(IOU_THRESHOLDS)))
    num_objects = tracks.num_objects.sum(axis=0)
    counted = num_objects > 0
    if counted.any():
        right, wrong = tracks.right[:, counted], tracks.wrong[:, counted]
        precision[counted] = average_precision(right, wrong, num_objects[counted, None])
    if num_objects[0]:
        for m, limit in enumerate(MAX_TRACKS):
            recall[m] = tracks.right[tracks.ranks < limit, 0].sum(axis=0) / num_objects[0]
    return precision, recall


def _summarise(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """Average (classes, areas, thresholds) and (classes, max tracks, thresholds)."""

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
