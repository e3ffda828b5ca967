"""A video's predicted and annotated tracks as error analysis sees them: overlaps and matches.

Nothing here depends on the kinds of errors; :mod:`.error_analysis` defines them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .frame_overlaps import frame_intersections, frame_ious, track_areas
from .protocol import MAX_TRACKS, average_precision
from .tracks import GroundTruth, Track, Video

BACKGROUND_IOU = 0.1
RIGHT_MASK_IOU = 0.5


class TrackSet(NamedTuple):
    """Predicted tracks of a video, or corrected ones, by falling score."""

    scores: np.ndarray  # (N,)
    classes: np.ndarray  # (N,) index of the category
    sources: np.ndarray  # (N, T) the row of the video's masks that each frame's mask is
    ious: np.ndarray  # (N, C) IoU of the whole track with each column


@dataclass(frozen=True)
class MeasuredVideo:
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
    tracks: TrackSet
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
        return self._repaired_ious(linked)

    @cached_property
    def segmented_ious(self) -> np.ndarray:
        """(D, C) likewise of the segmented track."""
        return self._repaired_ious(segmented)

    def _repaired_ious(self, repair: Callable) -> np.ndarray:
        same_class = self.tracks.classes[:, None] == self.classes
        tracks, columns = (self.belongs & same_class).nonzero()
        repaired = whole_ious(self.areas, self.inter, repair(self, tracks, columns))
        ious = np.zeros(same_class.shape)
        ious[tracks, columns] = repaired[np.arange(len(tracks)), columns]
        return ious


def measure_videos(
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
) -> MeasuredVideo:
    scores = np.array([track.score for _, track in predicted], dtype=float)
    classes = np.array([class_ for class_, _ in predicted], dtype=int)
    best = best_tracks(scores, classes)
    columns = [track for _, track in annotated] + [Track([""] * size.length, size)]
    rows = [predicted[n][1] for n in best] + columns
    crowd = np.array([column.crowd for column in columns])
    objects = ~crowd
    objects[-1] = False

    areas = track_areas(rows, size.length)
    inter = frame_intersections(rows, columns, size.length)
    sources = np.repeat(np.arange(len(best))[:, None], size.length, axis=1)
    on, right_mask = _identities(areas, inter, objects)
    return MeasuredVideo(
        rows=rows,
        classes=np.array([class_ for class_, _ in annotated] + [-1]),
        crowd=crowd,
        objects=objects,
        areas=areas,
        inter=inter,
        tracks=TrackSet(scores[best], classes[best], sources, whole_ious(areas, inter, sources)),
        on=on,
        right_mask=right_mask,
    )


def _identities(
    areas: np.ndarray, inter: np.ndarray, objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each mask is on, and each object's best right mask, as in :class:`MeasuredVideo`."""
    num_tracks = inter.shape[1] - inter.shape[2]
    overlaps = frame_ious(inter[:, :num_tracks], areas[:, :num_tracks], areas[:, num_tracks:])
    overlaps[..., ~objects] = 0
    on = np.where(overlaps.max(axis=2) >= BACKGROUND_IOU, overlaps.argmax(axis=2), -1)
    is_right = (overlaps >= RIGHT_MASK_IOU) & (on[..., None] == np.arange(len(objects)))
    # One more row, which is never the best, because there may be no track at all.
    candidates = np.pad(np.where(is_right, overlaps, 0), ((0, 0), (0, 1), (0, 0)))
    return on, np.where(is_right.any(axis=1), candidates.argmax(axis=1), -1)


def best_tracks(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Order by falling score, without those beyond the protocol's number for a class."""
    order = np.argsort(-scores, kind="stable")
    by_class = order[np.argsort(classes[order], kind="stable")]
    first = np.searchsorted(classes[by_class], classes[by_class])
    rank = np.empty(len(order), dtype=int)
    rank[by_class] = np.arange(len(order)) - first
    return order[rank[order] < MAX_TRACKS[-1]]


def whole_ious(areas: np.ndarray, inter: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """IoU (N, C) of tracks put together from rows, ``sources`` (N, T), with each column."""
    frames = np.arange(len(areas))
    shared = inter[frames, sources].sum(axis=1)
    column_areas = areas[:, -inter.shape[2] :].sum(axis=0)
    unions = areas[frames, sources].sum(axis=1)[:, None] + column_areas - shared
    return shared / np.maximum(unions, 1)


def wrong_identity(
    video: MeasuredVideo, tracks: np.ndarray, objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of wrong identity of pairs of track and object, each (n,).

    Returns:
        tuple: (n, T) bool: the track is on another object; another track has this object.
    """
    on, objects = video.on.T[tracks], objects[:, None]
    return (on != objects) & (on >= 0), (on != objects) & (video.right_mask.T[objects[:, 0]] >= 0)


def linked(video: MeasuredVideo, tracks: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Rows (n, T) of the linked track of each pair."""
    strays, held = wrong_identity(video, tracks, objects)
    return np.where(strays | held, video.right_mask.T[objects], tracks[:, None])


def segmented(video: MeasuredVideo, tracks: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Rows (n, T) of the segmented track of each pair."""
    strays, held = wrong_identity(video, tracks, objects)
    return np.where(strays | held, tracks[:, None], annotated_rows(video, objects))


def annotated_rows(video: MeasuredVideo, objects: np.ndarray) -> np.ndarray:
    """Rows (n, T) of the objects' own masks."""
    return np.repeat((len(video.tracks.scores) + objects)[:, None], len(video.areas), axis=1)


def match_tracks(video: MeasuredVideo, tracks: TrackSet, threshold: float) -> np.ndarray:
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


def mean_average_precision(
    videos: list[MeasuredVideo], matches: list[tuple[TrackSet, np.ndarray]]
) -> float:
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
