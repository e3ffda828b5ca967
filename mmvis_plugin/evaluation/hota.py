"""HOTA, Higher Order Tracking Accuracy, of mask tracks.

Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021. The
numbers are those of the ``trackeval`` package, whose rules hold where the paper is silent: what is
compared in a frame are masks, by their IoU; classes are scored one by one; crowd annotations are
objects like any other. Unlike there, a mask without pixels counts as no mask.

For each localisation threshold alpha, with |TP|, |FN| and |FP| counted over all frames::

    DetA = |TP| / (|TP| + |FN| + |FP|)
    AssA = mean over c in TP of |TPA(c)| / (|TPA(c)| + |FNA(c)| + |FPA(c)|)
    LocA = mean over c in TP of IoU(c)
    HOTA = sqrt(DetA * AssA)

The figures are means over the 19 alphas. Scores play no part: a track of score 0.01 counts as
one of 0.99, so that results with a hundred guesses a video should be scored above a threshold.
"""

from __future__ import annotations

from collections import defaultdict
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

ALPHAS = np.arange(1, 20) / 20
HOTA_FIGURES = ("HOTA", "DetA", "AssA", "LocA", "DetRe", "DetPr", "AssRe", "AssPr")

# What is summed over videos, a row of 19 numbers each.
_TP, _FN, _FP, _ASSA, _ASSRE, _ASSPR, _LOCA = range(7)
_EPS = np.finfo(float).eps


def evaluate_hota(
    gt: GroundTruth | dict | str | PathLike,
    results: Mapping | Sequence[dict] | str | PathLike,
    score_threshold: float = 0.0,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> dict:
    """Score mask tracks with HOTA.

    Args:
        gt: Annotations, as for :func:`~mmvis_plugin.evaluation.evaluate_ytvis`.
        results: Entries ``{video_id, category_id, score, segmentations}``, their file, or what
            ``load_results`` made of them.
        score_threshold: Tracks of a lower score are left out.
        progress: Wraps an iterable of ``total`` items, to show progress.

    Returns:
        dict: ``class_combined``: figures of all classes' counts together (``cls_comb_det_av`` of
        trackeval), ``class_averaged``: the mean of the classes' figures (``cls_comb_cls_av``: a
        class without any mask takes part, with LocA 1 and all else 0) and ``per_class``, by name.
        Each holds ``HOTA DetA AssA LocA DetRe DetPr AssRe AssPr`` in [0, 1], means over
        :data:`ALPHAS`, and ``per_alpha``: the same as lists of 19.

    Raises:
        ValueError: The annotations or an entry of the results are malformed; says where. Or the
            annotations list no categories.
    """
    gt, tracks = load_tracks(gt, results)
    if not gt.categories:
        raise ValueError("the annotations list no categories, so there is nothing to score")
    sums = defaultdict(lambda: np.zeros((7, len(ALPHAS))))
    parts = by_video_and_class(gt, tracks, score_threshold, progress)
    for (_, category), chosen, annotated, length in parts:
        sums[category] += _video_sums(chosen, annotated, length)
    curves = {category: _figures(sums[category]) for category in gt.categories}
    return {
        "class_combined": _report(_figures(sum(sums.values()))),
        "class_averaged": _report(np.mean(list(curves.values()), axis=0)),
        "per_class": {name: _report(curves[c]) for c, name in gt.categories.items()},
    }


def _video_sums(tracks: list[Track], annotations: list[Track], length: int) -> np.ndarray:
    """Sums (7, alphas) of one video and class, see the indices above."""
    areas, gt_areas = track_areas(tracks, length), track_areas(annotations, length)
    # trackeval's order of axes, annotations first, decides between equally good assignments.
    inter = frame_intersections(annotations, tracks, length)
    ious = frame_ious(inter, gt_areas, areas)
    lengths, gt_lengths = np.count_nonzero(areas, axis=0), np.count_nonzero(gt_areas, axis=0)
    rows, columns, matched_ious = _assign_frames(ious, gt_areas > 0, areas > 0)

    hits = matched_ious >= ALPHAS[:, None] - _EPS  # (alphas, matches)
    together = np.zeros((len(ALPHAS), len(annotations), len(tracks)))
    alpha, match = hits.nonzero()
    np.add.at(together, (alpha, rows[match], columns[match]), 1)
    tp = hits.sum(axis=1)

    def associated(count: np.ndarray) -> np.ndarray:
        return (together**2 / np.maximum(count, 1)).sum(axis=(1, 2))

    sums = np.zeros((7, len(ALPHAS)))
    sums[_TP], sums[_FN], sums[_FP] = tp, gt_lengths.sum() - tp, lengths.sum() - tp
    sums[_ASSA] = associated(gt_lengths[:, None] + lengths - together)
    sums[_ASSRE] = associated(gt_lengths[:, None])
    sums[_ASSPR] = associated(lengths)
    sums[_LOCA] = (hits * matched_ious).sum(axis=1)
    return sums


def _assign_frames(
    ious: np.ndarray, gt_present: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match the masks of every frame so that the tracks agree best over the video.

    The weight of a pair is its IoU times the Jaccard index of the two tracks over all frames, with
    soft counts, as in trackeval.

    Args:
        ious: (T, G, D).
        gt_present: (T, G).
        present: (T, D).

    Returns:
        tuple: annotation, track and IoU of each match, (n,), those with an IoU of 0 left out.
    """
    unions = ious.sum(axis=1, keepdims=True) + ious.sum(axis=2, keepdims=True) - ious
    # Where the sum of IoUs is 0 (or rounds to it), so is the numerator.
    potential = np.where(unions > _EPS, ious / np.maximum(unions, _EPS), 0).sum(axis=0)
    counts = gt_present.sum(axis=0)[:, None] + present.sum(axis=0) - potential
    alignment = potential / np.maximum(counts, _EPS)
    matches = [np.zeros((3, 0))]
    for t in ious.any(axis=(1, 2)).nonzero()[0]:
        rows, columns = gt_present[t].nonzero()[0], present[t].nonzero()[0]
        weights = (alignment * ious[t])[rows[:, None], columns]
        chosen_rows, chosen_columns = linear_sum_assignment(weights, maximize=True)
        rows, columns = rows[chosen_rows], columns[chosen_columns]
        matches.append(np.stack([rows, columns, ious[t, rows, columns]]))
    rows, columns, matched_ious = np.concatenate(matches, axis=1)
    overlap = matched_ious > 0
    return rows[overlap].astype(int), columns[overlap].astype(int), matched_ious[overlap]


def _figures(sums: np.ndarray) -> np.ndarray:
    """Figures (8, alphas) in the order of :data:`HOTA_FIGURES`; LocA is 1 without a match."""
    tp, fn, fp = sums[:_ASSA]
    matches = np.maximum(tp, 1)
    det, ass = tp / np.maximum(tp + fn + fp, 1), sums[_ASSA] / matches
    return np.stack(
        [
            np.sqrt(det * ass),
            det,
            ass,
            np.where(tp > 0, sums[_LOCA] / matches, 1),
            tp / np.maximum(tp + fn, 1),
            tp / np.maximum(tp + fp, 1),
            sums[_ASSRE] / matches,
            sums[_ASSPR] / matches,
        ]
    )


def _report(figures: np.ndarray) -> dict:
    per_alpha = dict(zip(HOTA_FIGURES, figures.tolist(), strict=True))
    means = dict(zip(HOTA_FIGURES, figures.mean(axis=1).tolist(), strict=True))
    return {**means, "per_alpha": per_alpha}
