"""The YouTube-VIS protocol: how tracks are matched and figures made of the matches.

A predicted track and an annotated one are compared over the whole video: the IoU is the sum of the
intersections in all frames over the sum of the unions, so that a frame in which only one of them
is present adds its area to the union. On these IoUs the rules are COCO's: 10 thresholds, 101
recalls, at most 100 tracks per video and class, crowd annotations ignored.

:func:`match_videos` compares the tracks of each video. All that the figures need of a video is then
in a small :class:`VideoMatches`. :func:`accumulate` gives the figures of any list of these records.

Masks stay run-length encoded throughout (:mod:`mmvis_plugin.ytvis.rle`): the masks of a track,
one frame after another, are one long mask, and an IoU of tracks that of two such masks.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from mmvis_plugin.ytvis.rle import intersections

from .tracks import GroundTruth, Track, by_video, read_masks

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
    predicted, annotated = by_video(tracks), gt.by_video

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
    from .assignment import assign  # compiled code

    assign(ious, first, stop, gt_ignored, crowd, IOU_THRESHOLDS, matched, ignored)
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
        idle: Flags of the annotations that are compared with no track. Their masks are not read
            where their size is known.

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
    skipped = [i and a.known_area for i, a in zip(idle.tolist(), annotations, strict=True)]
    counts = [track.counts for track in tracks]
    counts += [absent if s else a.counts for s, a in zip(skipped, annotations, strict=True)]
    runs = read_masks(everything, counts)

    areas = runs.areas.reshape(len(everything), length)
    pixels = areas.sum(axis=1)
    mean_areas = pixels / np.maximum(np.count_nonzero(areas, axis=1), 1)
    known = np.array([track.known_area for track in everything], dtype=float)  # None is nan
    sizes = np.stack([pixels, np.where(np.isnan(known), mean_areas, known)], axis=1)
    edges = np.append(0, runs.stops)[length * np.arange(len(everything) + 1)]
    return sizes, np.stack([edges[:-1], edges[1:]], axis=1), runs.bounds


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
