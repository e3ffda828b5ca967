"""Is one result better than another, or was it the choice of videos?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .protocol import IOU_THRESHOLDS, MAX_TRACKS, VideoMatches, average_precision, rank_tracks

BOOTSTRAP_FIGURES = ("AP", "AP50", "AP75", "AR10")

_MOST_NUMBERS = 1 << 19  # of an array, so that it stays in the processor's cache


class Difference(NamedTuple):
    """How much a figure of the second result is above that of the first.

    Attributes:
        difference: On all videos.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    difference: float
    low: float
    high: float


def paired_bootstrap(
    matches_a: Sequence[VideoMatches],
    matches_b: Sequence[VideoMatches],
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """Compare two results on the same videos by a paired bootstrap over the videos.

    As many videos as there are are drawn with replacement, the same for both results, and the
    figures computed on them; the interval holds the middle of the differences found (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3). A class without annotations
    in the videos drawn is left out of the means, as the protocol does.

    Args:
        matches_a: The first result, of :func:`~mmvis_plugin.evaluation.match_videos`.
        matches_b: The second, on the same annotations.
        num_resamples: How often videos are drawn.
        seed: Of the random choice.
        confidence: Part of the differences that the interval holds, in (0, 1).

    Returns:
        dict: A :class:`Difference`, b less a, for each of ``AP AP50 AP75 AR10``. Where 0 is not
        between ``low`` and ``high``, the difference is more than the choice of videos explains.

    Raises:
        ValueError: The results are not of the same videos and annotations, or there are no
            annotations that count.
    """
    if not 0 < confidence < 1 or num_resamples < 1:
        raise ValueError(
            f"confidence must be in (0, 1) and num_resamples at least 1, got {confidence} and "
            f"{num_resamples}"
        )
    _check_paired(matches_a, matches_b)
    num_videos = len(matches_a)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(num_videos, np.full(num_videos, 1 / num_videos), num_resamples)
    weights = np.concatenate([np.ones((1, num_videos), dtype=draws.dtype), draws])
    differences = _figures(matches_b, weights) - _figures(matches_a, weights)
    tail = (1 - confidence) / 2
    # A resample without any annotation that counts defines nothing.
    low, high = np.nanquantile(differences[1:], [tail, 1 - tail], axis=0)
    return {
        name: Difference(float(differences[0, k]), float(low[k]), float(high[k]))
        for k, name in enumerate(BOOTSTRAP_FIGURES)
    }


def _check_paired(matches_a: Sequence[VideoMatches], matches_b: Sequence[VideoMatches]) -> None:
    if [m.video_id for m in matches_a] != [m.video_id for m in matches_b]:
        raise ValueError("the two results are not of the same videos in the same order")
    for a, b in zip(matches_a, matches_b, strict=True):
        if not np.array_equal(a.object_labels, b.object_labels) or not np.array_equal(
            a.objects, b.objects
        ):
            raise ValueError(f"video {a.video_id}: the annotations of the two results differ")
    if not any(m.objects[:, 0].any() for m in matches_a):
        raise ValueError("there are no annotations that count")


def _figures(matches: Sequence[VideoMatches], weights: np.ndarray) -> np.ndarray:
    """Compute the figures on videos that count several times or not at all.

    Args:
        matches: Records of V videos.
        weights: (R, V) how often each video counts.

    Returns:
        np.ndarray: (R, figures); nan where no annotation counts.
    """
    labels = np.concatenate([x for m in matches for x in (m.labels, m.object_labels)])
    at_50, at_75 = (int(np.isclose(IOU_THRESHOLDS, t).argmax()) for t in (0.5, 0.75))
    sums = np.zeros((len(weights), len(BOOTSTRAP_FIGURES)))
    num_defined = np.zeros((len(weights), 1))  # classes
    for tracks in rank_tracks(matches, int(labels.max()) + 1):
        right, wrong = tracks.right[:, 0], tracks.wrong[:, 0]  # of any size
        num_objects = weights @ tracks.num_objects[:, 0]
        defined = num_objects.nonzero()[0]
        num_defined[defined] += 1
        top = tracks.ranks < MAX_TRACKS[1]
        portions = np.ceil(len(defined) * right.size / _MOST_NUMBERS)
        for rows in np.array_split(defined, max(int(portions), 1)):
            counts = weights[rows][:, tracks.videos].T[:, :, None]  # (tracks, rows, 1)
            objects = num_objects[rows, None]
            ap = average_precision(right[:, None] * counts, wrong[:, None] * counts, objects)
            recall = (right[top, None] * counts[top]).sum(axis=0) / objects
            figures = [ap.mean(axis=1), ap[:, at_50], ap[:, at_75], recall.mean(axis=1)]
            sums[rows] += np.stack(figures, axis=1)
    with np.errstate(invalid="ignore"):
        return sums / num_defined
