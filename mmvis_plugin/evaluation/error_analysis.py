"""What goes wrong with mask tracks, and how much average precision each kind of error costs.

After TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV
2020), which takes the errors of image detectors apart: at an IoU threshold t, every wrong
prediction gets one kind; the cost of a kind is the AP gained if only its errors were mended. What
follows for tracks is our reading; TIDE has no notion of time.

**Frame by frame.** A mask is *on* the annotated object that it overlaps most in its frame, if
their IoU in that frame is at least 0.1, TIDE's threshold for background. It is a *right* mask of
that object if that IoU is at least 0.5. Crowd annotations are no objects here.

**Pieces.** For a track and an object, the frames in which the *identity* is wrong are those in
which the track is not on the object, but on another one, or another track has a right mask of the
object. Two repaired tracks follow:

- *linked*: in frames of wrong identity, the best right mask of the object by any track, or none;
  in all others the track's own mask;
- *segmented*: in frames of wrong identity the track's own mask; in all others, also those in which
  the track is absent or on nothing, the object's annotation.

**Kinds.** A track is wrong if the protocol of YouTube-VIS gives it no object at threshold t. In
this order, with IoU that of the whole tracks:

``classification``
    IoU >= t with an object of another class.
``duplicate``
    The object of its class that it overlaps most is another track's already, and the IoU is >= t
    or that other track is on the object in at least half of the frames in which this one is:
    nothing but its removal mends it. (TIDE calls the second case a localisation error.)
``linking``
    Right class, and the linked track has IoU >= t. One of three, by what is in the frames of wrong
    identity: ``split``, other tracks have the object (and this one is on no other object);
    ``merge``, this one is on another object (and no other track has the first); ``switch``, both.
``segmentation``
    Right class, and the segmented track has IoU >= t: the masks are poor or absent.
``background``
    On no object of any class: IoU < 0.1 with each, over the frames in which the track is present.
``other``
    The track belongs to some object, but more than one thing is wrong, such as class and masks.
``missed``
    An object that the protocol gives no track, and that no track mended as above takes.

A track belongs to an object if their IoU is >= 0.1 over the frames in which the track is present;
for linking and segmentation it must belong to that object. (TIDE asks for that of the whole IoU,
which would make background of the short piece of a split track.)

**Mending** one kind, by falling score: a classification, linking, segmentation or other error is
repaired for the object it overlaps most out of those that have no track yet and for which the
repair suffices. It gets that object's class, the linked or the segmented masks; an error of more
than one thing gets the object's class and all its masks (TIDE removes it). It is removed if there
is no such object, as are duplicate and background tracks. A missed object is added with its
annotated masks and the median score of the right tracks of its class (of all right tracks if its
class has none, 1 without any; TIDE takes the object away instead). The mended results go through
the same protocol; gains of several kinds do not add up, and a gain can be slightly negative where
removed tracks leave room for others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import NamedTuple

import numpy as np

from .frame_overlaps import frame_intersections, frame_ious, load_tracks, track_areas
from .protocol import (
    IOU_THRESHOLDS,
    MAX_TRACKS,
    average_precision,
)
from .tracks import GroundTruth, Track, Video

LINKING_KINDS = ("split", "merge", "switch")
ERROR_KINDS = (
    "classification",
    "segmentation",
    "linking",
    "missed",
    "duplicate",
    "background",
    "other",
)
BACKGROUND_IOU = 0.1
RIGHT_MASK_IOU = 0.5

_ALL_KINDS = (*ERROR_KINDS, *LINKING_KINDS)
_REPAIRED_KINDS = ("classification", "linking", "segmentation", "other")


@dataclass(frozen=True)
class ErrorAnalysis:
    """What each kind of error costs, at each of K IoU thresholds.

    Attributes:
        thresholds: (K,) IoU from which a track is right.
        ap: (K,) AP at each threshold.
        gains: By kind (:data:`ERROR_KINDS` and :data:`LINKING_KINDS`), (K,) AP gained if only the
            errors of that kind were mended.
        counts: By kind, (K,) number of tracks, or of objects for ``missed``.
    """

    thresholds: np.ndarray
    ap: np.ndarray
    gains: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]

    def to_dict(self) -> dict:
        """Give everything as JSON's types, with the means over the thresholds."""
        return {
            "thresholds": self.thresholds.tolist(),
            "ap": {"mean": float(self.ap.mean()), "per_threshold": self.ap.tolist()},
            "errors": {
                kind: {
                    "gain": float(gain.mean()),
                    "gain_per_threshold": gain.tolist(),
                    "count_per_threshold": self.counts[kind].tolist(),
                }
                for kind, gain in self.gains.items()
            },
        }


def analyze_errors(
    gt: GroundTruth | dict | str | PathLike,
    results: Mapping | Sequence[dict] | str | PathLike,
    thresholds: Sequence[float] = tuple(IOU_THRESHOLDS),
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> ErrorAnalysis:
    """Find what each kind of error costs.

    Args:
        gt: Annotations, as for :func:`~mmvis_plugin.evaluation.evaluate_ytvis`.
        results: Entries ``{video_id, category_id, score, segmentations}``, their file, or what
            ``load_results`` made of them.
        thresholds: IoUs from which a track is right, each in (0, 1]. By default the ten of the
            protocol, over which AP is the mean.
        progress: Wraps an iterable of ``total`` items, to show progress; called twice.

    Returns:
        ErrorAnalysis: The gains; their means belong to the mean AP over the thresholds.

    Raises:
        ValueError: The annotations or an entry of the results are malformed, there are no
            annotations, or a threshold is out of range.
    """
    thresholds = np.asarray(thresholds, dtype=float)
    _check_thresholds(thresholds)
    videos = list(_measure_videos(*load_tracks(gt, results), progress).values())
    ap = np.zeros(len(thresholds))
    gains = {kind: np.zeros(len(thresholds)) for kind in _ALL_KINDS}
    counts = {kind: np.zeros(len(thresholds), dtype=int) for kind in _ALL_KINDS}
    for k, threshold in enumerate(progress(thresholds, len(thresholds))):
        judged = [_judge(video, threshold) for video in videos]
        ap[k] = _average_precision(videos, [(j.video.tracks, j.matched) for j in judged])
        missed_scores = _missed_scores(judged)
        for kind in _ALL_KINDS:
            mended = [_mend(j, kind, missed_scores) for j in judged]
            gains[kind][k] = _average_precision(videos, mended) - ap[k]
            counts[kind][k] = sum(_count(j, kind) for j in judged)
    return ErrorAnalysis(thresholds, ap, gains, counts)


def mend_results(
    gt: GroundTruth | dict | str | PathLike,
    results: Mapping | Sequence[dict] | str | PathLike,
    kind: str,
    threshold: float = 0.5,
) -> list[dict]:
    """Give the results with the errors of one kind mended, to look at or to score.

    The AP50 of ``mend_results(gt, results, kind, 0.5)`` is the one that :func:`analyze_errors`
    finds at the threshold 0.5.

    Args:
        gt: Annotations, as for :func:`~mmvis_plugin.evaluation.evaluate_ytvis`.
        results: Entries ``{video_id, category_id, score, segmentations}``, their file, or what
            ``load_results`` made of them.
        kind: One of :data:`ERROR_KINDS` or :data:`LINKING_KINDS`.
        threshold: IoU from which a track is right, in (0, 1].

    Returns:
        list[dict]: Entries of the same form, masks as compressed RLE or None. The tracks beyond
        the 100 best of a class and video, at which the protocol does not look, are not among them.

    Raises:
        ValueError: As for :func:`analyze_errors`, or the kind is unknown.
    """
    if kind not in _ALL_KINDS:
        raise ValueError(f"unknown kind {kind!r}; choose from {', '.join(_ALL_KINDS)}")
    _check_thresholds(np.array([threshold]))
    gt, tracks = load_tracks(gt, results)
    videos = _measure_videos(gt, tracks)
    judged = [_judge(video, threshold) for video in videos.values()]
    missed_scores = _missed_scores(judged)
    return [
        entry
        for id_, j in zip(videos, judged, strict=True)
        for entry in _entries(id_, j.video, _mend(j, kind, missed_scores)[0], list(gt.categories))
    ]


def _check_thresholds(thresholds: np.ndarray) -> None:
    if not len(thresholds) or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise ValueError(f"thresholds must be in (0, 1], got {thresholds.tolist()}")


# --- a video's tracks and how they overlap --------------------------------------------------------


class _TrackSet(NamedTuple):
    """Predicted tracks of a video, or mended ones, by falling score."""

    scores: np.ndarray  # (N,)
    classes: np.ndarray  # (N,) index of the category
    sources: np.ndarray  # (N, T) the row of the video's masks that each frame's mask is
    ious: np.ndarray  # (N, C) IoU of the whole track with each column


@dataclass(frozen=True)
class _Video:
    """Overlaps of all masks of a video; nothing here depends on a threshold of the track IoU.

    Rows are the D predicted tracks by falling score, the annotations, and a track without masks;
    columns are the annotations and that same empty track, so that there is always a column and
    the index -1 means "nothing" in both.
    """

    rows: list[Track]
    classes: np.ndarray  # (C,) index of each column's category, -1 for the last
    crowd: np.ndarray  # (C,) bool
    objects: np.ndarray  # (C,) bool: annotations that are not crowds
    areas: np.ndarray  # (T, R)
    inter: np.ndarray  # (T, R, C)
    tracks: _TrackSet
    on: np.ndarray  # (T, D) column of the object that each mask is on, -1 for none
    right_mask: np.ndarray  # (T, C) row of the best right mask of each object, -1 for none

    @cached_property
    def belongs(self) -> np.ndarray:
        """(D, C) bool: IoU with an object, over the frames in which the track is present."""
        num_tracks = len(self.tracks.scores)
        areas, column_areas = self.areas[:, :num_tracks], self.areas[:, num_tracks:]
        shared = self.inter[:, :num_tracks].sum(axis=0)
        both = areas.sum(axis=0)[:, None] + (areas > 0).T.astype(np.int64) @ column_areas
        return (shared >= BACKGROUND_IOU * (both - shared)) & (shared > 0) & self.objects

    @cached_property
    def linked_ious(self) -> np.ndarray:
        """(D, C) IoU of the linked track; 0 for an object that is not the track's."""
        return self._repaired_ious(_linked)

    @cached_property
    def segmented_ious(self) -> np.ndarray:
        """(D, C) likewise of the segmented track."""
        return self._repaired_ious(_segmented)

    def _repaired_ious(self, repair: Callable) -> np.ndarray:
        same_class = self.tracks.classes[:, None] == self.classes
        tracks, columns = (self.belongs & same_class).nonzero()
        repaired = _whole_ious(self.areas, self.inter, repair(self, tracks, columns))
        ious = np.zeros(same_class.shape)
        ious[tracks, columns] = repaired[np.arange(len(tracks)), columns]
        return ious


def _measure_videos(
    gt: GroundTruth,
    tracks: Mapping[tuple, list[Track]],
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> dict:
    """Measure every video that has anything, by id."""
    if all(track.crowd for found in gt.tracks.values() for track in found):
        raise ValueError(
            "there are no annotations to analyse with, or crowds only; use a split that has some"
        )
    index = {category: k for k, category in enumerate(gt.categories)}
    members = defaultdict(lambda: ([], []))  # of each video: (class, track), (class, annotation)
    for side, table in enumerate((tracks, gt.tracks)):
        for (video, category), found in table.items():
            if category in index:
                members[video][side].extend((index[category], track) for track in found)
    ids = [id_ for id_ in gt.videos if id_ in members]
    return {id_: _measure(*members[id_], gt.videos[id_]) for id_ in progress(ids, len(ids))}


def _measure(
    predicted: list[tuple[int, Track]], annotated: list[tuple[int, Track]], size: Video
) -> _Video:
    scores = np.array([track.score for _, track in predicted], dtype=float)
    classes = np.array([class_ for class_, _ in predicted], dtype=int)
    best = _best(scores, classes)
    columns = [track for _, track in annotated] + [Track([""] * size.length, size)]
    rows = [predicted[n][1] for n in best] + columns
    crowd = np.array([column.crowd for column in columns])
    objects = ~crowd
    objects[-1] = False

    areas = track_areas(rows, size.length)
    inter = frame_intersections(rows, columns, size.length)
    sources = np.repeat(np.arange(len(best))[:, None], size.length, axis=1)
    on, right_mask = _identities(areas, inter, objects)
    return _Video(
        rows=rows,
        classes=np.array([class_ for class_, _ in annotated] + [-1]),
        crowd=crowd,
        objects=objects,
        areas=areas,
        inter=inter,
        tracks=_TrackSet(scores[best], classes[best], sources, _whole_ious(areas, inter, sources)),
        on=on,
        right_mask=right_mask,
    )


def _identities(
    areas: np.ndarray, inter: np.ndarray, objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tell what each mask is on, and each object's best right mask, as in :class:`_Video`."""
    num_tracks = inter.shape[1] - inter.shape[2]
    overlaps = frame_ious(inter[:, :num_tracks], areas[:, :num_tracks], areas[:, num_tracks:])
    overlaps[..., ~objects] = 0
    on = np.where(overlaps.max(axis=2) >= BACKGROUND_IOU, overlaps.argmax(axis=2), -1)
    is_right = (overlaps >= RIGHT_MASK_IOU) & (on[..., None] == np.arange(len(objects)))
    # One more row, which is never the best, because there may be no track at all.
    candidates = np.pad(np.where(is_right, overlaps, 0), ((0, 0), (0, 1), (0, 0)))
    return on, np.where(is_right.any(axis=1), candidates.argmax(axis=1), -1)


def _best(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Order by falling score, without those beyond the protocol's number for a class."""
    order = np.argsort(-scores, kind="stable")
    by_class = order[np.argsort(classes[order], kind="stable")]
    first = np.searchsorted(classes[by_class], classes[by_class])
    rank = np.empty(len(order), dtype=int)
    rank[by_class] = np.arange(len(order)) - first
    return order[rank[order] < MAX_TRACKS[-1]]


def _whole_ious(areas: np.ndarray, inter: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """IoU (N, C) of tracks put together from rows, ``sources`` (N, T), with each column."""
    frames = np.arange(len(areas))
    shared = inter[frames, sources].sum(axis=1)
    column_areas = areas[:, -inter.shape[2] :].sum(axis=0)
    unions = areas[frames, sources].sum(axis=1)[:, None] + column_areas - shared
    return shared / np.maximum(unions, 1)


def _wrong_identity(
    video: _Video, tracks: np.ndarray, objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of wrong identity of pairs of track and object, each (n,).

    Returns:
        tuple: (n, T) bool: the track is on another object; another track has this object.
    """
    on, objects = video.on.T[tracks], objects[:, None]
    return (on != objects) & (on >= 0), (on != objects) & (video.right_mask.T[objects[:, 0]] >= 0)


def _linked(video: _Video, tracks: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Rows (n, T) of the linked track of each pair."""
    strays, held = _wrong_identity(video, tracks, objects)
    return np.where(strays | held, video.right_mask.T[objects], tracks[:, None])


def _segmented(video: _Video, tracks: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Rows (n, T) of the segmented track of each pair."""
    strays, held = _wrong_identity(video, tracks, objects)
    return np.where(strays | held, tracks[:, None], _annotated(video, objects))


def _annotated(video: _Video, objects: np.ndarray) -> np.ndarray:
    """Rows (n, T) of the objects' own masks."""
    return np.repeat((len(video.tracks.scores) + objects)[:, None], len(video.areas), axis=1)


# --- the protocol at one threshold ----------------------------------------------------------------


def _match(video: _Video, tracks: _TrackSet, threshold: float) -> np.ndarray:
    """Give each track, best score first, the free annotation of its class it overlaps most.

    Returns:
        np.ndarray: (N,) the column, -1 for none.
    """
    near = tracks.ious >= min(threshold, 1 - 1e-10)
    near &= tracks.classes[:, None] == video.classes
    rank = tracks.ious.argsort(axis=1, kind="stable").argsort(axis=1)
    preference = rank + len(video.classes) * ~video.crowd
    matched = np.full(len(near), -1)
    free = np.ones(len(video.classes), dtype=bool)
    for n in near.any(axis=1).nonzero()[0]:
        candidates = np.where(near[n] & free, preference[n], -1)
        if candidates.max() >= 0:
            matched[n] = candidates.argmax()
            free[matched[n]] = video.crowd[matched[n]]
    return matched


def _average_precision(videos: list[_Video], matches: list[tuple[_TrackSet, np.ndarray]]) -> float:
    """Mean AP over the classes that have objects, of each video's tracks and their columns."""
    num_objects = np.bincount(np.concatenate([v.classes[v.objects] for v in videos]))
    scores = np.concatenate([tracks.scores for tracks, _ in matches])
    classes = np.concatenate([tracks.classes for tracks, _ in matches])
    found = np.concatenate([matched >= 0 for _, matched in matches])
    ignored = found & np.concatenate(
        [video.crowd[matched] for video, (_, matched) in zip(videos, matches, strict=True)]
    )
    order = np.argsort(-scores, kind="stable")
    order = order[~ignored[order]]
    precisions = []
    for class_ in num_objects.nonzero()[0]:
        right = found[order[classes[order] == class_]]
        precisions.append(average_precision(right, ~right, num_objects[class_]))
    return float(np.mean(precisions)) if precisions else 0.0


# --- kinds of errors and their mending ------------------------------------------------------------


class _Judged(NamedTuple):
    """A video's tracks at one threshold."""

    video: _Video
    threshold: float
    matched: np.ndarray  # (D,) column of each track, -1 for none
    kinds: np.ndarray  # (D,) str, "right" or the kind of error
    missed: np.ndarray  # columns of the missed objects


def _judge(video: _Video, threshold: float) -> _Judged:
    """Tell each track's kind and the missed objects."""
    tracks = video.tracks
    matched = _match(video, tracks, threshold)
    linkable = video.linked_ious >= threshold
    # In order of preference: the first that holds.
    tests = {
        "right": matched >= 0,
        "classification": _reclassifiable(video, threshold).any(axis=1),
        "duplicate": _is_duplicate(video, matched, threshold),
        "linking": linkable.any(axis=1),
        "segmentation": (video.segmented_ious >= threshold).any(axis=1),
        "background": ~video.belongs.any(axis=1),
    }
    kinds = np.select(list(tests.values()), list(tests), default="other").astype("<U16")
    linking = (kinds == "linking").nonzero()[0]
    nearest = np.where(linkable, tracks.ious, -1)[linking].argmax(axis=1)
    strays, held = (frames.any(axis=1) for frames in _wrong_identity(video, linking, nearest))
    kinds[linking] = np.select([~strays, ~held], ["split", "merge"], default="switch")

    judged = _Judged(video, threshold, matched, kinds, np.zeros(0, dtype=int))
    taken = set(matched)
    for kind in _REPAIRED_KINDS:
        taken.update(object_ for _, object_ in _repairs(judged, kind))
    missed = [object_ for object_ in video.objects.nonzero()[0] if object_ not in taken]
    return judged._replace(missed=np.array(missed, dtype=int))


def _reclassifiable(video: _Video, threshold: float) -> np.ndarray:
    """(D, C) objects of another class that a track would be right for."""
    other_class = video.tracks.classes[:, None] != video.classes
    return (video.tracks.ious >= threshold) & other_class & video.objects


def _is_duplicate(video: _Video, matched: np.ndarray, threshold: float) -> np.ndarray:
    """(D,) whether the object that a track overlaps most is another's in the same frames."""
    tracks = np.arange(len(matched))
    candidates = (video.tracks.classes[:, None] == video.classes) & video.objects
    nearest = np.where(candidates, video.tracks.ious, -1).argmax(axis=1)
    owner = np.full(len(video.classes), -1)
    owner[matched[matched >= 0]] = tracks[matched >= 0]
    here = video.on == nearest  # (T, D)
    both = here & (video.on[:, owner[nearest]] == nearest)
    same_frames = here.any(axis=0) & (2 * both.sum(axis=0) >= here.sum(axis=0))
    pairs = (tracks, nearest)
    belongs = candidates[pairs] & video.belongs[pairs]
    return belongs & (owner[nearest] >= 0) & (same_frames | (video.tracks.ious[pairs] >= threshold))


def _is_kind(judged: _Judged, kind: str) -> np.ndarray:
    """(D,) whether each track is an error of this kind."""
    return np.isin(judged.kinds, LINKING_KINDS if kind == "linking" else kind)


def _count(judged: _Judged, kind: str) -> int:
    return len(judged.missed) if kind == "missed" else int(_is_kind(judged, kind).sum())


def _repairs(judged: _Judged, kind: str) -> list[tuple[int, int]]:
    """Pairs of track and object that mending this kind makes, best score first."""
    video, threshold = judged.video, judged.threshold
    if kind == "classification":
        possible = _reclassifiable(video, threshold)
    elif kind == "segmentation":
        possible = video.segmented_ious >= threshold
    elif kind in ("linking", *LINKING_KINDS):
        possible = video.linked_ious >= threshold
    elif kind == "other":
        possible = video.belongs
    else:
        return []
    free = np.ones(len(video.classes), dtype=bool)
    free[judged.matched[judged.matched >= 0]] = False
    pairs = []
    for n in _is_kind(judged, kind).nonzero()[0]:
        candidates = possible[n] & free
        if candidates.any():
            object_ = int(np.where(candidates, video.tracks.ious[n], -1).argmax())
            free[object_] = False
            pairs.append((int(n), object_))
    return pairs


def _missed_scores(judged: list[_Judged]) -> Callable[[int], float]:
    """Give the score of an added track of a class: the median of the right ones."""
    by_class = defaultdict(list)
    for video, _, matched, _, _ in judged:
        for n in video.objects[matched].nonzero()[0]:
            by_class[video.tracks.classes[n]].append(video.tracks.scores[n])
    everything = [score for scores in by_class.values() for score in scores]
    medians = {class_: float(np.median(scores)) for class_, scores in by_class.items()}
    default = float(np.median(everything)) if everything else 1.0
    return lambda class_: medians.get(class_, default)


def _mend(
    judged: _Judged, kind: str, missed_score: Callable[[int], float]
) -> tuple[_TrackSet, np.ndarray]:
    """Mend the errors of one kind.

    Returns:
        tuple: The tracks, and the column that each is matched to, (N,).
    """
    video = judged.video
    wrong = _is_kind(judged, kind)
    missed = judged.missed if kind == "missed" else judged.missed[:0]
    if not wrong.any() and not len(missed):
        return video.tracks, judged.matched

    scores, classes, sources, _ = video.tracks
    pairs = np.array(_repairs(judged, kind), dtype=int).reshape(-1, 2)
    repaired, objects = pairs.T
    classes, sources = classes.copy(), sources.copy()
    if kind in ("classification", "other"):
        classes[repaired] = video.classes[objects]
    if kind == "other":
        sources[repaired] = _annotated(video, objects)
    elif kind == "segmentation":
        sources[repaired] = _segmented(video, repaired, objects)
    elif kind in ("linking", *LINKING_KINDS):
        sources[repaired] = _linked(video, repaired, objects)
    kept = ~wrong
    kept[repaired] = True

    added = np.array([missed_score(class_) for class_ in video.classes[missed]], dtype=float)
    scores = np.concatenate([scores[kept], added])
    classes = np.concatenate([classes[kept], video.classes[missed]])
    sources = np.concatenate([sources[kept], _annotated(video, missed)])
    best = _best(scores, classes)
    mended = _TrackSet(
        scores[best],
        classes[best],
        sources[best],
        _whole_ious(video.areas, video.inter, sources[best]),
    )
    return mended, _match(video, mended, judged.threshold)


def _entries(id_: Hashable, video: _Video, tracks: _TrackSet, categories: list) -> Iterator[dict]:
    """Write tracks as entries of results.json."""
    for score, class_, sources, _ in zip(*tracks, strict=True):
        counts = [video.rows[row].counts[t] for t, row in enumerate(sources)]
        yield {
            "video_id": id_,
            "category_id": categories[class_],
            "score": float(score),
            "segmentations": Track(counts, video.rows[-1].video).rles,
        }
