"""Tracking figures of mask tracks: HOTA and the counts of CLEAR, as TrackEval computes them.

Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021;
Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT
Metrics", 2008. Masks are compared by their IoU, frame by frame and class by class. Crowd
annotations are objects like any other; a mask without pixels is no mask.

Scores play no part: a track of score 0.01 counts as much as one of 0.99. Results with a hundred
guesses a video should be scored above a threshold. Only where a method has written a track once for
each of several classes, the class with the highest score counts.
"""

from __future__ import annotations

import contextlib
import io
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
from .tracks import GroundTruth, Track

HOTA_FIGURES = ("HOTA", "DetA", "AssA", "LocA", "DetRe", "DetPr", "AssRe", "AssPr")
MATCH_IOU = 0.5  # of CLEAR and of the identities of an object
INSTALL_TRACKEVAL = "pip install --no-deps trackeval==1.3.0 tabulate==0.10.0"


def evaluate_tracking(
    gt: GroundTruth | dict | str | PathLike,
    results: Mapping | Sequence[dict] | str | PathLike,
    score_threshold: float = 0.0,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> dict[str, dict]:
    """Compute HOTA and count what happens to the identities of the annotated objects.

    Needs the package ``trackeval``. One video is in memory at a time.

    Args:
        gt: Annotations, as for :func:`~mmvis_plugin.evaluation.evaluate_ytvis`.
        results: Entries ``{video_id, category_id, score, segmentations}``, their file, or what
            ``load_results`` made of them.
        score_threshold: Tracks with a lower score are left out.
        progress: Wraps an iterable of ``total`` items, to show progress.

    Returns:
        dict: Two groups of figures.

        ``hota``: ``class_combined``, all classes' masks together; ``class_averaged``, the mean over
        the classes that have annotations; ``per_class`` and ``per_tag`` (of the videos, where the
        JSON has ``tags``), by name. Each holds ``HOTA DetA AssA LocA DetRe DetPr AssRe AssPr`` in
        [0, 1], means over 19 localisation thresholds, and ``per_alpha``: the same as lists of 19.

        ``counts``: ``all``, ``per_class`` and ``per_tag``, each with

        - ``objects``, ``tracks``: annotated and predicted tracks with a mask in some frame.
        - ``id_switches``, ``fragments``, ``mostly_tracked``, ``partly_tracked``, ``mostly_lost``:
          IDSW, Frag, MT, PT and ML of CLEAR.
        - ``ids_per_object``: mean number of tracks that an object has over time, among the objects
          that have any (our reading; 0 if none has). Tracks are assigned as in CLEAR: pairs with an
          IoU of at least 0.5, first those that continue from the frame before, then by IoU.
        - ``objects_by_ids``: number of objects by that number of tracks, as lists ``[ids,
          objects]``.

    Raises:
        ValueError: The annotations or an entry of the results are malformed; says where.
        ImportError: TrackEval is not installed; says how to install it.
    """
    hota, clear = _metrics()
    gt, tracks = load_tracks(gt, results)
    tracks = without_other_classes(tracks)
    hotas, counts = {}, {}
    for key, chosen, annotated, length in by_video_and_class(gt, tracks, score_threshold, progress):
        sequence = _sequence(chosen, annotated, length)
        hotas[key] = hota.eval_sequence(sequence)
        ids = _count_ids(sequence)
        counts[key] = (clear.eval_sequence(sequence), sequence["num_tracker_ids"], ids)

    nothing = hota.eval_sequence({"num_tracker_dets": 0, "num_gt_dets": 0})

    def together(keys: Iterable) -> dict:
        return hota.combine_sequences({key: hotas[key] for key in keys} or {None: nothing})

    of_class = {c: [key for key in hotas if key[1] == c] for c in gt.categories}
    of_tag = {tag: [key for key in hotas if key[0] in ids] for tag, ids in gt.tags.items()}
    classes = {c: together(keys) for c, keys in of_class.items()}
    annotated = {c: f for c, f in classes.items() if (f["HOTA_TP"] + f["HOTA_FN"]).any()}
    return {
        "hota": {
            "class_combined": _report(together(hotas)),
            "class_averaged": _report(hota.combine_classes_class_averaged(annotated or classes)),
            "per_class": {name: _report(classes[c]) for c, name in gt.categories.items()},
            "per_tag": {tag: _report(together(keys)) for tag, keys in of_tag.items()},
        },
        "counts": {
            "all": _summarise(counts.values()),
            "per_class": {
                name: _summarise(counts[key] for key in of_class[c])
                for c, name in gt.categories.items()
            },
            "per_tag": {
                tag: _summarise(counts[key] for key in keys) for tag, keys in of_tag.items()
            },
        },
    }


def without_other_classes(tracks: Mapping[tuple, Sequence[Track]]) -> dict[tuple, list[Track]]:
    """Leave out what a method has written as a track of another class with a higher score.

    Args:
        tracks: By (video id, category id). Those with the same masks in all frames are one track.
    """
    best: dict[tuple, tuple] = {}  # video and masks: score and category
    for (video, category), found in tracks.items():
        for track in found:
            same = video, *track.counts
            if same not in best or track.score > best[same][0]:
                best[same] = track.score, category
    return {
        (video, category): [t for t in found if best[(video, *t.counts)][1] == category]
        for (video, category), found in tracks.items()
    }


def _metrics() -> tuple:
    """TrackEval's HOTA and CLEAR."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it names what it could not import
            from trackeval.metrics import CLEAR, HOTA
    except ImportError as error:
        raise ImportError(
            f"tracking figures need TrackEval ({error}). To install it, run: {INSTALL_TRACKEVAL}"
        ) from error
    return HOTA(), CLEAR({"THRESHOLD": MATCH_IOU, "PRINT_CONFIG": False})


def _sequence(tracks: list[Track], annotations: list[Track], length: int) -> dict:
    """One video and class in TrackEval's form."""
    tracks, annotations = ([t for t in side if t.areas.any()] for side in (tracks, annotations))
    areas, gt_areas = track_areas(tracks, length), track_areas(annotations, length)
    ious = frame_ious(frame_intersections(annotations, tracks, length), gt_areas, areas)
    ids, gt_ids = ([row.nonzero()[0] for row in present > 0] for present in (areas, gt_areas))
    return {
        "num_timesteps": length,
        "num_gt_ids": len(annotations),
        "num_tracker_ids": len(tracks),
        "num_gt_dets": np.count_nonzero(gt_areas),
        "num_tracker_dets": np.count_nonzero(areas),
        "gt_ids": gt_ids,
        "tracker_ids": ids,
        "similarity_scores": [
            frame[g[:, None], d] for frame, g, d in zip(ious, gt_ids, ids, strict=True)
        ],
    }


def _count_ids(sequence: dict) -> Counter:
    """Number of objects by the number of tracks that they have over time.

    Args:
        sequence: Of :func:`_sequence`.
    """
    taken = np.zeros((sequence["num_gt_ids"], sequence["num_tracker_ids"]), dtype=bool)
    current = np.full(len(taken), -1)
    frames = (sequence[key] for key in ("gt_ids", "tracker_ids", "similarity_scores"))
    for objects, tracks, ious in zip(*frames, strict=True):
        if not ious.size:
            continue  # as in CLEAR, a track goes on after frames without objects or without tracks
        near = ious >= MATCH_IOU - np.finfo(float).eps
        goes_on = tracks == current[objects, None]
        rows, columns = linear_sum_assignment(near * (1000 * goes_on + ious), maximize=True)
        right = near[rows, columns]
        objects, tracks = objects[rows[right]], tracks[columns[right]]
        taken[objects, tracks] = True
        current[:] = -1
        current[objects] = tracks
    return Counter(taken.sum(axis=1).tolist())


def _report(figures: dict) -> dict:
    """The figures of :data:`HOTA_FIGURES` from TrackEval's."""
    per_alpha = {name: figures[name].tolist() for name in HOTA_FIGURES}
    means = {name: float(figures[name].mean()) for name in HOTA_FIGURES}
    return {**means, "per_alpha": per_alpha}


def _summarise(parts: Iterable[tuple[dict, int, Counter]]) -> dict:
    """Add up the counts of videos and classes."""
    total, num_tracks, ids = Counter(), 0, Counter()
    for clear, tracks, found in parts:
        total.update({name: int(clear[name]) for name in ("IDSW", "Frag", "MT", "PT", "ML")})
        num_tracks += tracks
        ids += found
    objects = total["MT"] + total["PT"] + total["ML"]
    return {
        "objects": objects,
        "tracks": num_tracks,
        "id_switches": total["IDSW"],
        "fragments": total["Frag"],
        "mostly_tracked": total["MT"],
        "partly_tracked": total["PT"],
        "mostly_lost": total["ML"],
        "ids_per_object": sum(n * count for n, count in ids.items()) / max(objects - ids[0], 1),
        "objects_by_ids": [[n, ids[n]] for n in sorted(ids)],
    }
