"""What goes wrong with mask tracks, and how much average precision each kind of error costs.

After TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV
2020), which takes the errors of image detectors apart: at an IoU threshold t, every wrong
prediction gets one kind; the cost of a kind is the AP gained if only its errors were corrected.
What follows for tracks is our reading; TIDE has no notion of time.

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
    only its removal corrects it. (TIDE calls the second case a localisation error.)
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
    An object that the protocol gives no track, and that no track corrected as above takes.

A track belongs to an object if their IoU is >= 0.1 over the frames in which the track is present;
for linking and segmentation it must belong to that object. (TIDE asks for that of the whole IoU,
which would make background of the short piece of a split track.)

**Correction** of one kind, by falling score: a classification, linking, segmentation or other error
is repaired for the object it overlaps most out of those that have no track yet and for which the
repair suffices. It gets that object's class, the linked or the segmented masks; an error of more
than one thing gets the object's class and all its masks (TIDE removes it). It is removed if there
is no such object, as are duplicate and background tracks. A missed object is added with its
annotated masks and the median score of the right tracks of its class (of all right tracks if its
class has none, 1 without any; TIDE takes the object away instead). The corrected results go
through the same protocol; gains of several kinds do not add up, and a gain can be slightly negative
where removed tracks leave room for others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import NamedTuple

import numpy as np

from .frame_overlaps import load_tracks
from .measured_video import (
    MeasuredVideo,
    TrackSet,
    annotated_rows,
    best_tracks,
    linked,
    match_tracks,
    mean_average_precision,
    measure_videos,
    segmented,
    whole_ious,
    wrong_identity,
)
from .protocol import IOU_THRESHOLDS
from .tracks import GroundTruth, Track

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

_ALL_KINDS = (*ERROR_KINDS, *LINKING_KINDS)
_REPAIRED_KINDS = ("classification", "linking", "segmentation", "other")


@dataclass(frozen=True)
class ErrorAnalysis:
    """What each kind of error costs, at each of K IoU thresholds.

    Attributes:
        thresholds: (K,) IoU from which a track is right.
        ap: (K,) AP at each threshold.
        gains: By kind (:data:`ERROR_KINDS` and :data:`LINKING_KINDS`), (K,) AP gained if only the
            errors of that kind were corrected.
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
    videos = list(measure_videos(*load_tracks(gt, results), progress).values())
    ap = np.zeros(len(thresholds))
    gains = {kind: np.zeros(len(thresholds)) for kind in _ALL_KINDS}
    counts = {kind: np.zeros(len(thresholds), dtype=int) for kind in _ALL_KINDS}
    for k, threshold in enumerate(progress(thresholds, len(thresholds))):
        judged = [_judge(video, threshold) for video in videos]
        ap[k] = mean_average_precision(videos, [(j.video.tracks, j.matched) for j in judged])
        missed_scores = _missed_scores(judged)
        for kind in _ALL_KINDS:
            corrected = [_correct(j, kind, missed_scores) for j in judged]
            gains[kind][k] = mean_average_precision(videos, corrected) - ap[k]
            counts[kind][k] = sum(_count(j, kind) for j in judged)
    return ErrorAnalysis(thresholds, ap, gains, counts)


def correct_results(
    gt: GroundTruth | dict | str | PathLike,
    results: Mapping | Sequence[dict] | str | PathLike,
    kind: str,
    threshold: float = 0.5,
) -> list[dict]:
    """Give the results with the errors of one kind corrected, to look at or to score.

    The AP50 of ``correct_results(gt, results, kind, 0.5)`` is the one that :func:`analyze_errors`
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
    videos = measure_videos(gt, tracks)
    judged = [_judge(video, threshold) for video in videos.values()]
    missed_scores = _missed_scores(judged)
    corrected = (_correct(j, kind, missed_scores)[0] for j in judged)
    return [
        entry
        for (id_, video), tracks in zip(videos.items(), corrected, strict=True)
        for entry in _entries(id_, video, tracks, list(gt.categories))
    ]


def _check_thresholds(thresholds: np.ndarray) -> None:
    if not len(thresholds) or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise ValueError(f"thresholds must be in (0, 1], got {thresholds.tolist()}")


# --- kinds of errors and their correction ---------------------------------------------------------


class _Judged(NamedTuple):
    """A video's tracks at one threshold."""

    video: MeasuredVideo
    threshold: float
    matched: np.ndarray  # (D,) column of each track, -1 for none
    kinds: np.ndarray  # (D,) str, "right" or the kind of error
    missed: np.ndarray  # columns of the missed objects


def _judge(video: MeasuredVideo, threshold: float) -> _Judged:
    """Tell each track's kind and the missed objects."""
    tracks = video.tracks
    matched = match_tracks(video, tracks, threshold)
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
    strays, held = (frames.any(axis=1) for frames in wrong_identity(video, linking, nearest))
    kinds[linking] = np.select([~strays, ~held], ["split", "merge"], default="switch")

    judged = _Judged(video, threshold, matched, kinds, np.zeros(0, dtype=int))
    taken = set(matched)
    for kind in _REPAIRED_KINDS:
        taken.update(object_ for _, object_ in _repairs(judged, kind))
    missed = [object_ for object_ in video.objects.nonzero()[0] if object_ not in taken]
    return judged._replace(missed=np.array(missed, dtype=int))


def _reclassifiable(video: MeasuredVideo, threshold: float) -> np.ndarray:
    """(D, C) objects of another class that a track would be right for."""
    other_class = video.tracks.classes[:, None] != video.classes
    return (video.tracks.ious >= threshold) & other_class & video.objects


def _is_duplicate(video: MeasuredVideo, matched: np.ndarray, threshold: float) -> np.ndarray:
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
    """Pairs of track and object that the correction of a kind makes, best score first."""
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


def _correct(
    judged: _Judged, kind: str, missed_score: Callable[[int], float]
) -> tuple[TrackSet, np.ndarray]:
    """Correct the errors of one kind.

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
        sources[repaired] = annotated_rows(video, objects)
    elif kind == "segmentation":
        sources[repaired] = segmented(video, repaired, objects)
    elif kind in ("linking", *LINKING_KINDS):
        sources[repaired] = linked(video, repaired, objects)
    kept = ~wrong
    kept[repaired] = True

    added = np.array([missed_score(class_) for class_ in video.classes[missed]], dtype=float)
    scores = np.concatenate([scores[kept], added])
    classes = np.concatenate([classes[kept], video.classes[missed]])
    sources = np.concatenate([sources[kept], annotated_rows(video, missed)])
    best = best_tracks(scores, classes)
    corrected = TrackSet(
        scores[best],
        classes[best],
        sources[best],
        whole_ious(video.areas, video.inter, sources[best]),
    )
    return corrected, match_tracks(video, corrected, judged.threshold)


def _entries(
    id_: Hashable, video: MeasuredVideo, tracks: TrackSet, categories: list
) -> Iterator[dict]:
    """Write tracks as entries of results.json."""
    for score, class_, sources, _ in zip(*tracks, strict=True):
        counts = [video.rows[row].counts[t] for t, row in enumerate(sources)]
        yield {
            "video_id": id_,
            "category_id": categories[class_],
            "score": float(score),
            "segmentations": Track(counts, video.rows[-1].video).rles,
        }
