"""Objects in motion, and the plan of a video: what both versions of ShapesVIS share."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class MovingObject:
    """One object of a video: what it looks like and where it is in each of the T frames.

    Attributes:
        label: 0-based class index.
        colors: (2, 3) BGR colours in [0, 255].
        centers: (T, 2) x, y in pixels; may lie outside the frame.
        radii: (T,) half the object's size in pixels before stretching.
        stretch: (T,) ratio of its sides, 1 for undistorted.
        angles: (T,) rotation in radians.
    """

    label: int
    colors: np.ndarray
    centers: np.ndarray
    radii: np.ndarray
    stretch: np.ndarray
    angles: np.ndarray

    def coordinates(self, t: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Own coordinates u, v of the pixel positions ``x``, ``y`` in frame ``t``."""
        dx, dy = x - self.centers[t, 0], y - self.centers[t, 1]
        cos, sin = np.cos(self.angles[t]), np.sin(self.angles[t])
        side = np.sqrt(self.stretch[t])
        u = (cos * dx + sin * dy) / (self.radii[t] * side)
        v = (cos * dy - sin * dx) / (self.radii[t] / side)
        return u, v

    def reach(self, t: int) -> float:
        """Radius of a circle around the centre that holds the whole object, in pixels."""
        side = np.sqrt(max(self.stretch[t], 1 / self.stretch[t]))
        return 1.5 * self.radii[t] * side + 1


def reflect(path: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Fold an unbounded (T, 2) path back between ``low`` and ``high``, as a ball bounces."""
    span = high - low
    phase = np.mod(path - low, 2 * span)
    return low + np.minimum(phase, 2 * span - phase)


def smooth_step(num_frames: int, start: float, end: float) -> np.ndarray:
    """(T,) ramp that is 0 up to ``start``, 1 from ``end`` on, with zero slope at both."""
    ramp = np.clip((np.arange(num_frames) - start) / max(end - start, 1), 0, 1)
    return ramp**2 * (3 - 2 * ramp)


@dataclass
class VideoPlan:
    """The random plan of one video before it is rendered.

    Attributes:
        rng: The video's own random generator.
        num_frames: T.
        size: Height and width in pixels.
        objects: From back to front.
        cut: First frame of the second shot; None if there is one shot only.
    """

    rng: np.random.Generator
    num_frames: int
    size: tuple[int, int]
    objects: list[MovingObject] = field(default_factory=list)
    cut: int | None = None

    @property
    def unit(self) -> float:
        """Pixels per pixel of the reference size of 96 lines."""
        return min(self.size) / 96

    def bounds(self, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Corners of the area in which an object's centre moves in ordinary frames."""
        height, width = self.size
        margin = min(0.7 * radius, 0.3 * min(self.size))
        return np.full(2, margin), np.array([width - margin, height - margin])

    def velocity(self, slowest: float, fastest: float) -> np.ndarray:
        """(2,) x, y of a random velocity; the speeds are in units a frame."""
        heading = self.rng.uniform(0, 2 * np.pi)
        speed = self.unit * self.rng.uniform(slowest, fastest)
        return speed * np.array([np.cos(heading), np.sin(heading)])

    def dash(self, length: float, begin: int, num_frames: int) -> np.ndarray:
        """(num_frames, 2) shift of an object that moves farther in a frame than it is long.

        Args:
            length: Of the object in pixels.
            begin: First of the three frames of the dash.
            num_frames: Length of the path that is shifted.
        """
        heading = self.rng.uniform(0, 2 * np.pi)
        length = length * self.rng.uniform(0.9, 1.3)
        steps = np.zeros((num_frames, 2))
        steps[begin : begin + 3] = length * np.array([np.cos(heading), np.sin(heading)])
        return np.cumsum(steps, axis=0)

    def scale_change(self, index: int) -> None:
        """The object grows or shrinks by a factor of two to three."""
        target = self.objects[index]
        factor = self.rng.uniform(2.2, 3.0)
        ramp = smooth_step(self.num_frames, 0.15 * self.num_frames, 0.85 * self.num_frames)
        exponent = ramp if self.rng.random() < 0.5 else 1 - ramp
        # Centred on the geometric mean, so that neither end is too small to see.
        target.radii = target.radii * factor ** (exponent - 0.4)

    def aspect_ratio_change(self, index: int) -> None:
        """The object is stretched along one of its axes by a factor of two to two and a half."""
        target = self.objects[index]
        factor = self.rng.uniform(2.0, 2.5)
        ramp = smooth_step(self.num_frames, 0.15 * self.num_frames, 0.85 * self.num_frames)
        sign = self.rng.choice([-1.0, 1.0])
        target.stretch = factor ** (sign * ramp)
