"""How the tracks of a video overlap frame by frame; for all that looks into tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike

import numpy as np

from mmvis_plugin.ytvis.rle import decode_runs, intersections

from .tracks import GroundTruth, Track
from .ytvis_eval import load_ground_truth, load_results


def load_tracks(
    gt: GroundTruth | dict | str | PathLike,
    results: Mapping | Sequence[dict] | str | PathLike,
) -> tuple[GroundTruth, dict[tuple, list[Track]]]:
    """Read annotations and results, or take what was read before.

    Args:
        gt: A path, the loaded JSON, or a :class:`GroundTruth`.
        results: A path, the loaded JSON, or what :func:`load_results` made of it.

    Returns:
        tuple: The annotations, and the predicted tracks by (video id, category id), those of
        categories that the annotations list.

    Raises:
        ValueError: Something is malformed or does not fit; the message says where.
    """
    if not isinstance(gt, GroundTruth):
        gt = load_ground_truth(gt)
    tracks = results if isinstance(results, Mapping) else load_results(results, gt)
    return gt, {key: found for key, found in tracks.items() if key[1] in gt.categories}


def by_video_and_class(
    gt: GroundTruth,
    tracks: Mapping[tuple, Sequence[Track]],
    score_threshold: float,
    progress: Callable[[Iterable, int], Iterable],
) -> Iterator[tuple[tuple, list[Track], list[Track], int]]:
    """Go through all videos and the classes that are annotated or predicted in them.

    Args:
        gt: Annotations.
        tracks: Predicted tracks by (video id, category id), of :func:`load_tracks`.
        score_threshold: Tracks of a lower score are left out.
        progress: Wraps an iterable of ``total`` items, to show progress.

    Yields:
        tuple: (video id, category id), the predicted and the annotated tracks, and the number of
        frames of the video.
    """
    keys = [key for key in dict.fromkeys([*gt.tracks, *tracks]) if key[1] in gt.categories]
    for key in progress(keys, len(keys)):
        chosen = [track for track in tracks.get(key, []) if track.score >= score_threshold]
        yield key, chosen, gt.tracks.get(key, []), gt.videos[key[0]].length


def track_areas(tracks: Sequence[Track], length: int) -> np.ndarray:
    """Pixels of each track in each frame, (length, n) int64; 0 where it is absent."""
    return np.array([track.areas for track in tracks], dtype=np.int64).reshape(-1, length).T


def frame_intersections(
    tracks: Sequence[Track], others: Sequence[Track], length: int
) -> np.ndarray:
    """Count the pixels that tracks share, frame by frame. No mask is decoded.

    Args:
        tracks: D tracks of a video.
        others: G tracks of the same video.
        length: T, its number of frames.

    Returns:
        np.ndarray: (T, D, G) int64 pixels.

    Raises:
        ValueError: An RLE does not describe a mask of the video's size; says where.
    """
    shared = np.zeros((length, len(tracks), len(others)), dtype=np.int64)
    present = track_areas([*tracks, *others], length).T > 0  # checks the masks, too
    index = np.full(present.shape, -1)  # of each track's masks in a list of all
    index[present] = np.arange(present.sum())
    runs = decode_runs(
        [
            track.counts[t]
            for track, frames in zip([*tracks, *others], present, strict=True)
            for t in frames.nonzero()[0]
        ]
    )
    spans = np.stack([np.append(0, runs.stops[:-1])[: len(runs.stops)], runs.stops], axis=1)
    masks, other_masks = index[: len(tracks)].T[:, :, None], index[len(tracks) :].T[:, None]
    both = (masks >= 0) & (other_masks >= 0)
    masks, other_masks = (np.broadcast_to(m, both.shape)[both] for m in (masks, other_masks))
    shared[both] = intersections(runs.bounds, spans, masks, other_masks)
    return shared


def frame_ious(intersections: np.ndarray, areas: np.ndarray, other_areas: np.ndarray) -> np.ndarray:
    """IoU of the masks in each frame.

    Args:
        intersections: (T, D, G) pixels, of :func:`frame_intersections`.
        areas: (T, D) pixels.
        other_areas: (T, G) pixels.

    Returns:
        np.ndarray: (T, D, G) in [0, 1]; 0 where either is absent.
    """
    unions = areas[:, :, None] + other_areas[:, None] - intersections
    return intersections / np.maximum(unions, 1)
