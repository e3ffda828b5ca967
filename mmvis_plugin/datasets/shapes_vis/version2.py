"""Plans of version 2: twins, and objects that enter late, stay away for long or live over a cut.

An object is on stage in one or more visits, each with a path of its own, and outside of the frame
between them. It slides in and out through the nearest side, except at the ends of a shot.
"""

from dataclasses import dataclass, field

import numpy as np

from .appearance import contrasting_colors, similar_colors
from .events import LATE_ENTRY, LONG_ABSENCE
from .motion import MovingObject, VideoPlan, reflect, smooth_step
from .version1 import planned_events

# What the first two twins of a video do: pass over each other, come back at each other's place, or
# enter at the other one's place while that is away. None: there are no twins.
TWIN_SCRIPTS = ("cross", "swap", None, "cross", "relay", None)
# A video needs this many frames for a long absence.
LONG_ENOUGH = 34
# Largest step of an object that slides in or out, in radii.
SLIDE_STEP = 0.8

Spans = list[tuple[int, int]]  # first frame, and frame after the last, of each visit


def plan_video(
    rng: np.random.Generator,
    num_frames: int,
    size: tuple[int, int],
    num_classes: int,
    index: int,
) -> VideoPlan:
    """Plan one video; see :data:`~mmvis_plugin.datasets.shapes_vis.writing.Planner`."""
    plan = _Plan(rng, num_frames, size)
    events = planned_events(index)
    # Cycles of 10 (events), 9, 7 and 6 videos; the last is shifted after each ten, so that all
    # combinations occur.
    if index % 9 == 4:
        plan.opening = int(rng.integers(LATE_ENTRY, LATE_ENTRY + 4))
    if index % 7 == 5:
        plan.cut = plan.opening + plan.share(0.4, 0.6)
    script = TWIN_SCRIPTS[(index + index // 10) % len(TWIN_SCRIPTS)]
    plan.add_objects(script, num_classes, "leave_return" in events)
    plan.add_visits("fast_motion" in events)
    if script == "cross" and plan.cut is None:
        plan.cross(1, 0, twins=True)
    if "occlusion" in events:
        for n in plan.a_third(range(max(plan.num_twins, 1), len(plan.objects))):
            plan.cross(n, n - 1)
    for event in ("scale_change", "aspect_ratio_change"):
        if event in events:
            for n in plan.a_third(range(len(plan.objects))):
                getattr(plan, event)(n)
    plan.place_objects()
    return plan


@dataclass
class _Visit:
    """The frames in which an object is on stage, and where it is then.

    Attributes:
        start: First frame.
        stop: Frame after the last.
        path: (stop - start, 2) x, y of its centre in pixels, before it slides in and out.
    """

    start: int
    stop: int
    path: np.ndarray


@dataclass
class _Plan(VideoPlan):
    """A plan whose objects get their ``centers`` last, from their visits.

    Attributes:
        opening: Frame in which the first visits begin.
        num_twins: Objects of one class; they are the first objects.
        spans: Frames of each object's visits.
        visits: Visits of each object.
    """

    opening: int = 0
    num_twins: int = 0
    spans: list[Spans] = field(default_factory=list)
    visits: list[list[_Visit]] = field(default_factory=list)

    def share(self, low: float, high: float) -> int:
        """A random number of frames: this share of the video after its opening."""
        return round(self.rng.uniform(low, high) * (self.num_frames - self.opening))

    def a_third(self, objects: range) -> list[int]:
        """About a third of some objects, rounded up."""
        return self.rng.permutation(objects)[: (len(objects) + 2) // 3].tolist()

    # --- who is there, and when -----------------------------------------------------------------

    def add_objects(self, script: str | None, num_classes: int, absences: bool) -> None:
        """Up to three twins and objects of other classes, at most five in all.

        Args:
            script: Out of :data:`TWIN_SCRIPTS`.
            num_classes: Number of classes.
            absences: Whether a third of the other objects leave and return.
        """
        rng = self.rng
        labels = rng.permutation(num_classes)
        self.num_twins = int(rng.integers(2, 4)) if script else 0
        if script:
            colors = contrasting_colors(rng)
            for spans in [*self.twin_spans(script), self.other_spans()][: self.num_twins]:
                self.add_object(labels[0], colors, spans)
                colors = similar_colors(rng, colors)
        for n in range(int(rng.integers(0 if script else 1, 6 - self.num_twins))):
            spans = self.absence_spans() if absences and n % 3 == 0 else self.other_spans()
            label = labels[(n + 1) % num_classes]
            self.add_object(label, contrasting_colors(rng), spans)

    def add_object(self, label: int, colors: np.ndarray, spans: Spans) -> None:
        rng, num_frames = self.rng, self.num_frames
        self.objects.append(
            MovingObject(
                label=int(label),
                colors=colors,
                centers=np.empty((num_frames, 2)),
                radii=np.full(num_frames, self.unit * rng.uniform(10, 19)),
                stretch=np.ones(num_frames),
                angles=rng.uniform(0, 2 * np.pi)
                + np.radians(rng.uniform(-5, 5)) * np.arange(num_frames),
            )
        )
        self.spans.append(spans)

    @property
    def shots(self) -> Spans:
        """The video after its opening: one shot, or two around the cut."""
        ends = [self.opening, *filter(None, [self.cut]), self.num_frames]
        return list(zip(ends[:-1], ends[1:], strict=True))

    def twin_spans(self, script: str) -> list[Spans]:
        """Spans of the first two twins."""
        begin, end = self.opening, self.num_frames
        if self.cut is not None:
            return [self.shots, self.shots]
        if script == "cross":
            return [self.shots, self.late_spans(0.35) if self.rng.random() < 0.4 else self.shots]
        long = end - begin >= LONG_ENOUGH
        leave = begin + self.share(0.2, 0.3)
        if script == "swap":  # both are away at the same time
            gone = leave + self.rng.integers(0, 3, 2)
            back = leave + (LONG_ABSENCE if long else 5) + self.rng.integers(1, 5, 2)
            return [[(begin, int(gone[n])), (int(back[n]), end)] for n in range(2)]
        # A relay: the second twin enters while the first one is away.
        enter = leave + int(self.rng.integers(2, 5))
        back = max(enter + self.share(0.2, 0.3), leave + LONG_ABSENCE * long)
        return [[(begin, leave), (back, end)], [(enter, end)]]

    def other_spans(self) -> Spans:
        """Spans of any other object: some are late, some leave for good."""
        chance = self.rng.random()
        if self.cut is not None:  # in both shots, in the second or in the first only
            return (
                self.shots if chance < 0.5 else self.shots[1:] if chance < 0.8 else self.shots[:1]
            )
        if chance < 0.45:
            return self.late_spans(0.55)
        if chance < 0.55:
            return [(self.opening, self.opening + self.share(0.5, 0.8))]
        return self.shots

    def late_spans(self, latest: float) -> Spans:
        last = max(LATE_ENTRY + 1, round(latest * (self.num_frames - self.opening)))
        return [(self.opening + int(self.rng.integers(LATE_ENTRY, last)), self.num_frames)]

    def absence_spans(self) -> Spans:
        """Spans of an object that leaves and returns; if there is no room, it stays."""
        begin, end = self.opening, self.num_frames
        long = end - begin >= LONG_ENOUGH and self.rng.random() < 0.7
        gone = int(self.rng.integers(LONG_ABSENCE, 21) if long else self.rng.integers(3, 7))
        if self.cut is not None or end - begin < gone + 16:
            return self.shots
        leave = int(self.rng.integers(begin + 8, end - gone - 7))
        return [(begin, leave), (leave + gone, end)]

    # --- where they are -------------------------------------------------------------------------

    def add_visits(self, fast: bool) -> None:
        """Paths of all visits; a third of the objects make a dash if ``fast``.

        Where one of the first two twins comes on stage after the other one left, it does so at
        that one's last place.
        """
        dashing = self.a_third(range(len(self.objects))) if fast else []
        self.visits = [[] for _ in self.objects]
        order = sorted(
            (start, stop, n) for n, spans in enumerate(self.spans) for start, stop in spans
        )
        for start, stop, n in order:
            begin = None
            if n < 2 <= self.num_twins:
                left = [visit for visit in self.visits[1 - n] if visit.stop <= start]
                begin = left[-1].path[-1] if left else None
            path = self.wander(n, stop - start, begin)
            if n in dashing and (start, stop) == max(self.spans[n], key=lambda s: s[1] - s[0]):
                path = self.dashed(n, path)
            self.visits[n].append(_Visit(start, stop, path))

    def wander(self, n: int, length: int, begin: np.ndarray | None) -> np.ndarray:
        """(length, 2) path of object ``n`` from ``begin``, (2,), or from anywhere."""
        low, high = self.bounds(self.objects[n].radii[0])
        begin = self.rng.uniform(low, high) if begin is None else begin
        return reflect(begin + self.velocity(0.4, 2.2) * np.arange(length)[:, None], low, high)

    def dashed(self, n: int, path: np.ndarray) -> np.ndarray:
        radius, length = self.objects[n].radii[0], len(path)
        begin = int(self.rng.integers(length // 3, 2 * length // 3))
        return reflect(path + self.dash(2 * radius, begin, length), *self.bounds(radius))

    def cross(self, front: int, rear: int, twins: bool = False) -> None:
        """Let an object pass over one behind it, if they are on stage together.

        Args:
            front: The object whose path changes.
            rear: The other one.
            twins: Whether the front must hide the other one.
        """
        pairs = [(a, b) for a in self.visits[front] for b in self.visits[rear]]
        mover, other = max(pairs, key=lambda pair: _common(*pair))
        common = _common(mover, other)
        if common < 8:
            return
        first = max(mover.start, other.start)
        moment = first + int(self.rng.integers(common // 3, 2 * common // 3 + 1))
        place = other.path[moment - other.start]
        heading = other.path[moment - other.start] - other.path[moment - other.start - 1]
        velocity = self.velocity(2, 4)
        if velocity @ heading > 0:  # meet head-on, so that they part again
            velocity = -velocity
        target, radius = self.objects[front], self.objects[rear].radii[0]
        target.radii = np.maximum(target.radii, (1.15 if twins else 0.9) * radius)
        path = place + velocity * (np.arange(mover.start, mover.stop) - moment)[:, None]
        mover.path = reflect(path, *self.bounds(target.radii[0]))

    def place_objects(self) -> None:
        """Turn visits into centres; outside of them an object is far from the frame."""
        if self.cut is not None:
            zoom = self.rng.uniform(0.75, 1.3)  # another camera
        for target, visits in zip(self.objects, self.visits, strict=True):
            if self.cut is not None:
                target.radii[self.cut :] *= zoom
            target.centers = np.full((self.num_frames, 2), -10.0 * max(self.size))
            for visit in visits:
                path = visit.path
                if visit.start not in (0, self.cut):
                    path = self.slid_in(target, visit.start, path)
                if visit.stop not in (self.num_frames, self.cut):
                    path = self.slid_in(target, visit.stop - 1, path[::-1])[::-1]
                target.centers[visit.start : visit.stop] = path

    def slid_in(self, target: MovingObject, t: int, path: np.ndarray) -> np.ndarray:
        """(n, 2) path that comes from outside of the nearest side; it begins in frame ``t``."""
        reach = target.reach(t) + 2
        sides = [
            (abs(outside - path[0, axis]), axis, outside)
            for axis, extent in enumerate(self.size[::-1])
            for outside in (-reach, extent + reach)
        ]
        distance, axis, outside = min(sides)
        # A smooth step is 1.5 times as steep in its middle as on average.
        frames = min(np.ceil(1.5 * distance / (SLIDE_STEP * target.radii[t])), len(path) // 2)
        bump = 1 - smooth_step(len(path), 0, frames)
        path = path.copy()
        path[:, axis] += bump * (outside - path[:, axis])
        return path


def _common(a: _Visit, b: _Visit) -> int:
    """Number of frames in which both visits take place."""
    return min(a.stop, b.stop) - max(a.start, b.start)
