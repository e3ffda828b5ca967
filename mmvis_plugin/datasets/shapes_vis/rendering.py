"""From the plan of a video to masks and frames."""

from dataclasses import dataclass

import cv2
import numpy as np

from .appearance import appearance
from .motion import MovingObject, VideoPlan

# Samples per pixel side for antialiased colours; masks are taken at pixel centres.
SUPERSAMPLING = 2

Window = tuple[slice, slice]


@dataclass
class RenderedVideo:
    """One rendered video.

    Attributes:
        frames: T arrays (H, W, 3), uint8 BGR; empty where only masks were asked for.
        masks: (T, N, H, W) bool, visible pixels of each object, disjoint within a frame.
        full_areas: (T, N) pixels inside the frame that the object would have without occlusion.
        labels: (N,) 0-based class indices.
        tags: Events of the video, as measured on the masks, in the order of
            :data:`~mmvis_plugin.datasets.shapes_vis.events.EVENTS`.
        object_tags: The events of each of the N objects.
    """

    frames: list[np.ndarray]
    masks: np.ndarray
    full_areas: np.ndarray
    labels: np.ndarray
    tags: list[str]
    object_tags: list[list[str]]


def render_masks(plan: VideoPlan) -> tuple[np.ndarray, np.ndarray]:
    """Masks of a video.

    Returns:
        ``masks`` and ``full_areas`` of a :class:`RenderedVideo`.
    """
    shape = (plan.num_frames, len(plan.objects))
    masks = np.zeros((*shape, *plan.size), dtype=bool)
    full_areas = np.zeros(shape, dtype=int)
    for t in range(plan.num_frames):
        for n, target in enumerate(plan.objects):
            window = _window(target, t, plan.size)
            if window is None:
                continue
            u, v = target.coordinates(t, *_pixels(window))
            inside = appearance(target.label)[0](u, v)
            masks[(t, slice(0, n), *window)] &= ~inside
            masks[(t, n, *window)] = inside
            full_areas[t, n] = inside.sum()
    return masks, full_areas


def render_frames(plan: VideoPlan) -> list[np.ndarray]:
    """Frames of a video.

    Returns:
        T arrays (H, W, 3), uint8 BGR.
    """
    rng, frames = plan.rng, []
    starts = [0] if plan.cut is None else [0, plan.cut]
    stops = [*starts[1:], plan.num_frames]
    shots = [
        (start, stop, Background(rng, stop - start, plan.size))
        for start, stop in zip(starts, stops, strict=True)
    ]
    for start, stop, background in shots:
        for t in range(start, stop):
            canvas = background.frame(t - start).astype(np.float64)
            for target in plan.objects:
                _paint(canvas, target, t)
            canvas += rng.normal(0, 3, canvas.shape)
            frames.append(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))
    return frames


class Background:
    """A random texture of several octaves over which the camera pans slowly."""

    def __init__(self, rng: np.random.Generator, num_frames: int, size: tuple[int, int]) -> None:
        height, width = size
        heading = rng.uniform(0, 2 * np.pi)
        speed = min(size) / 96 * rng.uniform(0.3, 1.5)
        path = speed * np.arange(num_frames)[:, None] * np.array([np.cos(heading), np.sin(heading)])
        path -= path.min(axis=0)
        self.path = path
        extent = np.ceil(path.max(axis=0)).astype(int) + 1
        canvas_size = (width + int(extent[0]), height + int(extent[1]))
        canvas = np.full((canvas_size[1], canvas_size[0], 3), rng.uniform(60, 195, 3))
        for cells, amplitude in ((4, 34), (9, 24), (20, 14)):
            # Mostly light and dark, with some colour of its own.
            coarse = 0.8 * rng.normal(0, 1, (cells, cells, 1)) + rng.normal(
                0, 0.5, (cells, cells, 3)
            )
            canvas += amplitude * cv2.resize(coarse, canvas_size, interpolation=cv2.INTER_CUBIC)
        self.canvas = canvas.astype(np.float32)
        self.size = size

    def frame(self, t: int) -> np.ndarray:
        """(H, W, 3) float32 BGR picture of frame ``t``, shifted by fractions of a pixel."""
        height, width = self.size
        center = (self.path[t, 0] + (width - 1) / 2, self.path[t, 1] + (height - 1) / 2)
        return cv2.getRectSubPix(self.canvas, (width, height), center)


def _window(target: MovingObject, t: int, size: tuple[int, int]) -> Window | None:
    """Part of the frame that holds the whole object; None where the object is outside."""
    height, width = size
    (cx, cy), reach = target.centers[t], target.reach(t)
    x0, x1 = max(int(cx - reach), 0), min(int(cx + reach) + 2, width)
    y0, y1 = max(int(cy - reach), 0), min(int(cy + reach) + 2, height)
    return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None


def _pixels(window: Window, samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """x (1, w) and y (h, 1) of a window's pixel centres, or of several samples a pixel side."""
    rows, columns = (np.arange(part.start, part.stop) for part in window)
    offsets = (np.arange(samples) + 0.5) / samples - 0.5
    return (
        (columns[:, None] + offsets).reshape(1, -1),
        (rows[:, None] + offsets).reshape(-1, 1),
    )


def _paint(canvas: np.ndarray, target: MovingObject, t: int) -> None:
    """Draw an object into the (H, W, 3) float BGR ``canvas``."""
    window = _window(target, t, canvas.shape[:2])
    if window is None:
        return
    shape, texture = appearance(target.label)
    u, v = target.coordinates(t, *_pixels(window, SUPERSAMPLING))
    inside = shape(u, v).astype(float)
    share = texture(u, v)
    colors = inside[..., None] * (
        share[..., None] * target.colors[0] + (1 - share[..., None]) * target.colors[1]
    )
    height, width = (part.stop - part.start for part in window)
    blocks = (height, SUPERSAMPLING, width, SUPERSAMPLING)
    alpha = inside.reshape(blocks).mean(axis=(1, 3))
    premultiplied = colors.reshape(*blocks, 3).mean(axis=(1, 3))
    canvas[window] = canvas[window] * (1 - alpha[..., None]) + premultiplied
