"""Plans of version 1: one to five objects, all of which are there from early on."""

from collections.abc import Sequence

import numpy as np

from .appearance import contrasting_colors
from .events import MOTION_EVENTS
from .motion import MovingObject, VideoPlan, reflect, smooth_step


def plan_video(
    rng: np.random.Generator,
    num_frames: int,
    size: tuple[int, int],
    num_classes: int,
    index: int,
) -> VideoPlan:
    """Plan one video; see :data:`~mmvis_plugin.datasets.shapes_vis.writing.Planner`."""
    plan, events = _Plan(rng, num_frames, size), planned_events(index)
    # An occlusion needs an object in front and one behind.
    num_objects = int(rng.integers(2 if "occlusion" in events else 1, 6))
    for label in rng.integers(0, num_classes, num_objects):
        plan.add_object(int(label))
    for event in events:
        first = 1 if event == "occlusion" else 0
        candidates = np.arange(first, num_objects)
        for target in rng.permutation(candidates)[: (num_objects + 2) // 3]:
            getattr(plan, event)(int(target))
    return plan


def planned_events(index: int) -> Sequence[str]:
    """The two events planned for a video: all ten pairs in turn, so each in four videos of ten."""
    pairs = [(a, b) for i, a in enumerate(MOTION_EVENTS) for b in MOTION_EVENTS[i + 1 :]]
    return pairs[index % len(pairs)]


class _Plan(VideoPlan):
    def add_object(self, label: int) -> None:
        rng, steps = self.rng, np.arange(self.num_frames)[:, None]
        radius = self.unit * rng.uniform(10, 19)
        low, high = self.bounds(radius)
        velocity = self.velocity(0.4, 2.2)
        centers = reflect(rng.uniform(low, high) + velocity * steps, low, high)
        self.objects.append(
            MovingObject(
                label=label,
                colors=contrasting_colors(rng),
                centers=centers,
                radii=np.full(self.num_frames, radius),
                stretch=np.ones(self.num_frames),
                angles=rng.uniform(0, 2 * np.pi) + np.radians(rng.uniform(-5, 5)) * steps[:, 0],
            )
        )

    def occlusion(self, front: int) -> None:
        """The object crosses the next one, which lies behind it."""
        mover, rear = self.objects[front], self.objects[front - 1]
        moment = int(self.rng.integers(self.num_frames // 4, 3 * self.num_frames // 4))
        velocity = self.velocity(2, 4)
        path = rear.centers[moment] + velocity * (np.arange(self.num_frames) - moment)[:, None]
        mover.centers = reflect(path, *self.bounds(mover.radii[moment]))
        mover.radii = np.maximum(mover.radii, 0.9 * rear.radii[moment])

    def fast_motion(self, index: int) -> None:
        """A dash of three frames."""
        target = self.objects[index]
        begin = int(self.rng.integers(3, self.num_frames - 6))
        path = target.centers + self.dash(2 * target.radii[begin], begin, self.num_frames)
        target.centers = reflect(path, *self.bounds(target.radii.max()))

    def leave_return(self, index: int) -> None:
        """The object leaves the frame through the nearer side and comes back."""
        target = self.objects[index]
        gone = int(self.rng.integers(2, 5))
        leave = int(self.rng.integers(4, self.num_frames - gone - 8))
        back = leave + 4 + gone
        bump = smooth_step(self.num_frames, leave, leave + 4)
        bump = bump - smooth_step(self.num_frames, back, back + 4)
        left = target.centers[leave, 0] < self.size[1] / 2
        margin = max(target.reach(t) for t in range(leave, min(back + 1, self.num_frames))) + 1
        outside = -margin if left else self.size[1] + margin
        target.centers[:, 0] += bump * (outside - target.centers[:, 0])
