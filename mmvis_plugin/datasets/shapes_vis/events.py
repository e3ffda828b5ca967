"""What happens in a video of ShapesVIS, measured on its masks."""

from collections.abc import Iterator

import numpy as np

from .motion import MovingObject, VideoPlan

# Events that both versions plan.
MOTION_EVENTS = (
    "occlusion",
    "fast_motion",
    "scale_change",
    "aspect_ratio_change",
    "leave_return",
)
# Events by version; each is a tag of the videos and, in version 2, of the objects.
EVENTS = {
    1: MOTION_EVENTS,
    2: (
        *MOTION_EVENTS,
        "late_entry",
        "empty_opening",
        "cut",
        "long_absence",
        "twins",
        "twins_cross",
        "return_elsewhere",
    ),
}

# An object counts as present in a frame from this many visible pixels on.
MIN_VISIBLE_PIXELS = 12
# A late entry is seen for the first time in this frame or later.
LATE_ENTRY = 8
# An opening is empty if no object is seen in this many frames.
EMPTY_OPENING = 6
# A long absence takes at least this many frames, the longest clip of the methods on ShapesVIS.
LONG_ABSENCE = 13


def measure_tags(
    version: int, plan: VideoPlan, masks: np.ndarray, full_areas: np.ndarray
) -> tuple[list[str], list[list[str]]]:
    """Events that really happen to objects that can be seen.

    Args:
        version: Version of the dataset.
        plan: The video's.
        masks: (T, N, H, W) bool, visible pixels.
        full_areas: (T, N) pixels without occlusion.

    Returns:
        Names out of ``EVENTS[version]`` for the video, and for each of the N objects.
    """
    areas = masks.sum(axis=(2, 3))
    visible = areas >= MIN_VISIBLE_PIXELS
    found: list[set[str]] = []
    for n, target in enumerate(plan.objects):
        found.append(set())
        if visible[:, n].any():
            found[n].update(_motion_events(target, masks[:, n], full_areas[:, n], plan.cut))
            if version > 1:
                found[n].update(_visit_events(plan, n, visible))
    of_video = set().union(*found) | (_video_events(plan, visible) if version > 1 else set())
    return _ordered(version, of_video), [_ordered(version, events) for events in found]


def _ordered(version: int, events: set[str]) -> list[str]:
    return [event for event in EVENTS[version] if event in events]


def _motion_events(
    target: MovingObject, masks: np.ndarray, full_areas: np.ndarray, cut: int | None
) -> Iterator[str]:
    """Events of one object: ``masks`` is (T, H, W), ``full_areas`` (T,)."""
    areas = masks.sum(axis=(1, 2))
    visible = areas >= MIN_VISIBLE_PIXELS
    seen = np.flatnonzero(visible)
    share = areas[seen] / np.maximum(full_areas[seen], 1)
    between = slice(seen[0], seen[-1] + 1)
    covered = (full_areas[between] >= MIN_VISIBLE_PIXELS) & (
        areas[between] < 0.5 * full_areas[between]
    )
    if covered.any() and share.max() > 0.9:
        yield "occlusion"
    if (full_areas[between] == 0).any():
        yield "leave_return"
    both = visible[1:] & visible[:-1]
    if cut is not None:
        both[cut - 1] = False  # a cut is no motion
    overlap = (masks[1:] & masks[:-1]).sum(axis=(1, 2))
    if (both & (overlap < 0.1 * np.minimum(areas[1:], areas[:-1]))).any():
        yield "fast_motion"
    if target.radii[seen].max() >= 2 * target.radii[seen].min():
        yield "scale_change"
    if target.stretch[seen].max() >= 1.8 * target.stretch[seen].min():
        yield "aspect_ratio_change"


def _visit_events(plan: VideoPlan, n: int, visible: np.ndarray) -> Iterator[str]:
    """When object ``n`` is there, and beside whom; ``visible`` is (T, N) bool."""
    target, seen = plan.objects[n], np.flatnonzero(visible[:, n])
    if seen[0] >= LATE_ENTRY:
        yield "late_entry"
    if (np.diff(seen) > LONG_ABSENCE).any():
        yield "long_absence"
    for last, first in zip(seen[:-1], seen[1:], strict=True):
        away = np.linalg.norm(target.centers[first] - target.centers[last])
        if first - last > 2 and away > 4 * target.radii[first]:
            yield "return_elsewhere"
    for m, other in enumerate(plan.objects):
        if m == n or other.label != target.label:
            continue
        if visible[seen, m].mean() >= 0.5:
            yield "twins"
        if _cross(plan, target, other, visible[:, n] & visible[:, m]):
            yield "twins_cross"


def _cross(plan: VideoPlan, a: MovingObject, b: MovingObject, visible: np.ndarray) -> bool:
    """Whether two objects, apart before and after in one shot, come to lie over each other."""
    distance = np.linalg.norm(a.centers - b.centers, axis=1) / np.maximum(a.radii, b.radii)
    apart, over = visible & (distance > 2), np.flatnonzero(distance < 0.7)
    cut = plan.cut or 0
    shots = [slice(0, cut), slice(cut, plan.num_frames)]
    return any(
        apart[shot][: t - shot.start].any() and apart[shot][t - shot.start :].any()
        for shot in shots
        for t in over
        if shot.start <= t < shot.stop
    )


def _video_events(plan: VideoPlan, visible: np.ndarray) -> set[str]:
    events = set()
    if not visible[:EMPTY_OPENING].any():
        events.add("empty_opening")
    if plan.cut is not None:
        events.add("cut")
    return events
