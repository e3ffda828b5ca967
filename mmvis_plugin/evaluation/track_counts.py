"""Counts of whole tracks: identity switches, fragments, identities per object.

The matching is that of the CLEAR metrics (Bernardin and Stiefelhagen, "Evaluating Multiple Object
Tracking Performance: The CLEAR MOT Metrics", 2008) as the ``trackeval`` package does it, on masks:
class by class, in each frame the pairs with IoU >= 0.5 are assigned so that as many identities as
possible go on from the frame before, then by IoU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike

import numpy as np
from scipy.optimize import linear_sum_assignment

from .frame_overlaps import (
    by_video_and_class,
    frame_intersections,
    frame_ious,
    load_tracks,
    track_areas,
)
from .ytvis_eval import GroundTruth, Track

MATCH_IOU = 0.5
_EPS = np.finfo(float).eps


def count_tracks(
    gt: GroundTruth | dict | str | PathLike,
    results: Mapping | Sequence[dict] | str | PathLike,
    score_threshold: float = 0.0,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> dict:
    """Count what happens to the identities of the annotated objects.

    Args:
        gt: Annotations, as for :func:`~mmvis_plugin.evaluation.evaluate_ytvis`.
        results: Entries ``{video_id, category_id, score, segmentations}``, their file, or what
            ``load_results`` made of them.
        score_threshold: Tracks of a lower score are left out.
        progress: Wraps an iterable of ``total`` items, to show progress.

    Returns:
        dict: ``all``, and by name ``per_class`` and ``per_tag`` (of the videos, where the JSON
        has ``tags``), each with

        - ``objects``: annotated tracks, and ``tracks``: predicted ones; with a mask in some frame.
        - ``id_switches``: times an object is matched to another track than the last one it was
          matched to, however long ago (IDSW).
        - ``fragments``: times an object is matched again after frames in which it was present and
          not matched. Our reading: trackeval's Frag also counts an object's own absence, and does
          not count frames in which nothing is predicted.
        - ``mostly_tracked``, ``partly_tracked``, ``mostly_lost``: objects matched in more than
          80%, in 20% to 80%, and in less than 20% of the frames they are present in.
        - ``ids_per_object``: mean number of tracks an object is matched to over time, among the
          objects that are matched at all (our reading; 0 if none is).
        - ``objects_by_ids``: number of objects by that number of tracks, as lists ``[ids,
          objects]``.

    Raises:
        ValueError: The annotations or an entry of the results are malformed; says where.
    """
    gt, tracks = load_tracks(gt, results)
    histories: dict = {}
    num_tracks: Counter = Counter()
    parts = by_video_and_class(gt, tracks, score_threshold, progress)
    for key, chosen, annotated, length in parts:
        num_tracks[key] = sum(bool(track.areas.any()) for track in chosen)
        histories[key] = _histories(chosen, annotated, length)

    def summarise(chosen: Iterable) -> dict:
        together = [history for key in chosen for history in histories[key]]
        return _summarise(together, sum(num_tracks[key] for key in chosen))

    return {
        "all": summarise(histories),
        "per_class": {
            name: summarise([key for key in histories if key[1] == category])
            for category, name in gt.categories.items()
        },
        "per_tag": {
            tag: summarise([key for key in histories if key[0] in videos])
            for tag, videos in gt.tags.items()
        },
    }


def _histories(tracks: list[Track], annotations: list[Track], length: int) -> list[np.ndarray]:
    """The track each object is matched to, -1 for none, over the frames in which it is present."""
    areas, gt_areas = track_areas(tracks, length), track_areas(annotations, length)
    ious = frame_ious(frame_intersections(annotations, tracks, length), gt_areas, areas)
    matched = np.full((length, len(annotations)), -1)
    before = np.full(len(annotations), -1)
    # As in trackeval, identities are carried over frames that have no objects or no tracks.
    for t in (areas.any(axis=1) & gt_areas.any(axis=1)).nonzero()[0]:
        near = ious[t] >= MATCH_IOU - _EPS
        goes_on = np.arange(len(tracks)) == before[:, None]
        weights = np.where(near, 1000 * goes_on + ious[t], 0)
        rows, columns = gt_areas[t].nonzero()[0], areas[t].nonzero()[0]
        chosen_rows, chosen_columns = linear_sum_assignment(
            weights[rows[:, None], columns], maximize=True
        )
        rows, columns = rows[chosen_rows], columns[chosen_columns]
        right = near[rows, columns]
        matched[t, rows[right]] = columns[right]
        before = matched[t]
    return [matched[seen, g] for g, seen in enumerate(gt_areas.T > 0) if seen.any()]


def _summarise(histories: list[np.ndarray], num_tracks: int) -> dict:
    matches = [history[history >= 0] for history in histories]
    shares = np.array([len(m) / len(h) for m, h in zip(matches, histories, strict=True)])
    ids = Counter(len(np.unique(m)) for m in matches)
    found = len(histories) - ids[0]
    mostly_tracked, mostly_lost = int((shares > 0.8).sum()), int((shares < 0.2).sum())
    return {
        "objects": len(histories),
        "tracks": num_tracks,
        "id_switches": sum(int(np.count_nonzero(np.diff(m))) for m in matches),
        "fragments": sum(_fragments(history >= 0) for history in histories),
        "mostly_tracked": mostly_tracked,
        "partly_tracked": len(histories) - mostly_tracked - mostly_lost,
        "mostly_lost": mostly_lost,
        "ids_per_object": sum(n * count for n, count in ids.items()) / max(found, 1),
        "objects_by_ids": [[n, ids[n]] for n in sorted(ids)],
    }


def _fragments(matched: np.ndarray) -> int:
    """Runs of matched frames after the first one."""
    starts = np.count_nonzero(np.diff(matched.astype(int), prepend=0) > 0)
    return max(int(starts) - 1, 0)
