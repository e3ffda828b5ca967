"""ShapesVIS: a synthetic video instance segmentation dataset in the official YouTube-VIS layout.

Every video shows one to five textured shapes over a textured, moving background. What makes video
instance segmentation hard is planned into each video and then *measured* on the rendered truth:
occlusion, fast motion, scale change, aspect-ratio change, leaving and coming back. A class is a
pair of a shape and a texture; colours are random and carry no information about the class.

The same arguments write the same bytes, and video ``k`` of a split depends on the seed, the split
and ``k`` alone, so a larger dataset begins with the videos of a smaller one.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from mmvis_plugin.files import creating
from mmvis_plugin.ytvis.categories import CATEGORIES

VERSION = "1.0"
SPLITS = ("train", "valid")
EVENTS = ("occlusion", "fast_motion", "scale_change", "aspect_ratio_change", "leave_return")

# A track counts as present in a frame from this many visible pixels on.
MIN_VISIBLE_PIXELS = 12
# Samples per pixel side for antialiased colours; masks are taken at pixel centres.
SUPERSAMPLING = 2
JPEG_QUALITY = 95

# --- appearance -------------------------------------------------------------------------------
# Shapes and textures are functions of the object's own coordinates u, v, in which the shape fills
# about [-1, 1] x [-1, 1]. A shape gives a boolean, a texture the share of the first of two colours
# in [0, 1], one half on average for every texture: the mean colour tells nothing about the class.


def _polygon_radius(angle: np.ndarray, corners: int) -> np.ndarray:
    """Distance from the centre to the side of a regular polygon in the direction ``angle``."""
    sector = 2 * np.pi / corners
    return np.cos(sector / 2) / np.cos(np.mod(angle, sector) - sector / 2)


def _circle(u, v):
    return u**2 + v**2 < 0.9


def _square(u, v):
    return np.maximum(np.abs(u), np.abs(v)) < 0.82


def _triangle(u, v):
    return np.hypot(u, v) < 1.2 * _polygon_radius(np.arctan2(v, u), 3)


def _star(u, v):
    angle = np.mod(np.arctan2(v, u), 2 * np.pi / 5) - np.pi / 5
    return np.hypot(u, v) < 1.15 - 0.62 * (1 - np.abs(angle) / (np.pi / 5))


def _cross(u, v):
    return (np.minimum(np.abs(u), np.abs(v)) < 0.34) & (np.maximum(np.abs(u), np.abs(v)) < 1.0)


def _ring(u, v):
    radius = np.hypot(u, v)
    return (radius > 0.48) & (radius < 1.0)


def _stripes(u, v):
    return (np.mod(1.7 * v, 1) < 0.5).astype(float)


def _checker(u, v):
    return np.mod(np.floor(1.9 * u + 0.5) + np.floor(1.9 * v + 0.5), 2)


def _dots(u, v):
    # A dot of radius 0.4 in a cell of side 1 covers 0.5 of it.
    return ((np.mod(1.6 * u, 1) - 0.5) ** 2 + (np.mod(1.6 * v, 1) - 0.5) ** 2 < 0.16).astype(float)


def _rings(u, v):
    return (np.mod(2.1 * np.hypot(u, v), 1) < 0.5).astype(float)


def _gradient(u, v):
    return np.clip(0.5 + 0.6 * u, 0, 1)


def _pinwheel(u, v):
    return (np.mod(np.arctan2(v, u) / (np.pi / 3), 1) < 0.5).astype(float)


def _halves(u, v):
    return (u < 0).astype(float)


SHAPES: tuple[Callable, ...] = (_circle, _square, _triangle, _star, _cross, _ring)
TEXTURES: tuple[Callable, ...] = (
    _stripes,
    _checker,
    _dots,
    _rings,
    _gradient,
    _pinwheel,
    _halves,
)


def appearance(label: int) -> tuple[Callable, Callable]:
    """Shape and texture of a class.

    The six ShapesVIS classes differ in both; the longer lists of the benchmarks walk through all
    pairs, so that any two of their up to 42 classes differ in one at least.

    Args:
        label: 0-based class index below ``len(SHAPES) * len(TEXTURES)``.

    Returns:
        The shape's and the texture's function of (u, v).
    """
    shape, turn = label % len(SHAPES), label // len(SHAPES)
    return SHAPES[shape], TEXTURES[(shape + turn) % len(TEXTURES)]


# --- motion -----------------------------------------------------------------------------------


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


def _reflect(path: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Fold an unbounded (T, 2) path back between ``low`` and ``high``, as a ball bounces."""
    span = high - low
    phase = np.mod(path - low, 2 * span)
    return low + np.minimum(phase, 2 * span - phase)


def _smooth_step(num_frames: int, start: float, end: float) -> np.ndarray:
    """(T,) ramp that is 0 up to ``start``, 1 from ``end`` on, with zero slope at both."""
    ramp = np.clip((np.arange(num_frames) - start) / max(end - start, 1), 0, 1)
    return ramp**2 * (3 - 2 * ramp)


@dataclass
class _VideoPlan:
    """The random plan of one video before it is rendered."""

    rng: np.random.Generator
    num_frames: int
    size: tuple[int, int]
    objects: list[MovingObject] = field(default_factory=list)

    @property
    def unit(self) -> float:
        """Pixels per pixel of the reference size of 96 lines."""
        return min(self.size) / 96

    def bounds(self, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Corners of the area in which an object's centre moves in ordinary frames."""
        height, width = self.size
        margin = min(0.7 * radius, 0.3 * min(self.size))
        return np.full(2, margin), np.array([width - margin, height - margin])

    def add_object(self, label: int) -> None:
        rng, steps = self.rng, np.arange(self.num_frames)[:, None]
        radius = self.unit * rng.uniform(10, 19)
        low, high = self.bounds(radius)
        heading = rng.uniform(0, 2 * np.pi)
        velocity = self.unit * rng.uniform(0.4, 2.2) * np.array([np.cos(heading), np.sin(heading)])
        centers = _reflect(rng.uniform(low, high) + velocity * steps, low, high)
        self.objects.append(
            MovingObject(
                label=label,
                colors=_contrasting_colors(rng),
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
        heading = self.rng.uniform(0, 2 * np.pi)
        velocity = self.unit * self.rng.uniform(2, 4) * np.array([np.cos(heading), np.sin(heading)])
        path = rear.centers[moment] + velocity * (np.arange(self.num_frames) - moment)[:, None]
        mover.centers = _reflect(path, *self.bounds(mover.radii[moment]))
        mover.radii = np.maximum(mover.radii, 0.9 * rear.radii[moment])

    def fast_motion(self, index: int) -> None:
        """A dash of three frames in which the object moves farther in a frame than it is long."""
        target = self.objects[index]
        begin = int(self.rng.integers(3, self.num_frames - 6))
        heading = self.rng.uniform(0, 2 * np.pi)
        length = 2 * target.radii[begin] * self.rng.uniform(0.9, 1.3)
        steps = np.zeros((self.num_frames, 2))
        steps[begin : begin + 3] = length * np.array([np.cos(heading), np.sin(heading)])
        path = target.centers + np.cumsum(steps, axis=0)
        target.centers = _reflect(path, *self.bounds(target.radii.max()))

    def scale_change(self, index: int) -> None:
        """The object grows or shrinks by a factor of two to three."""
        target = self.objects[index]
        factor = self.rng.uniform(2.2, 3.0)
        ramp = _smooth_step(self.num_frames, 0.15 * self.num_frames, 0.85 * self.num_frames)
        exponent = ramp if self.rng.random() < 0.5 else 1 - ramp
        # Centred on the geometric mean, so that neither end is too small to see.
        target.radii = target.radii * factor ** (exponent - 0.4)

    def aspect_ratio_change(self, index: int) -> None:
        """The object is stretched along one of its axes by a factor of two to two and a half."""
        target = self.objects[index]
        factor = self.rng.uniform(2.0, 2.5)
        ramp = _smooth_step(self.num_frames, 0.15 * self.num_frames, 0.85 * self.num_frames)
        sign = self.rng.choice([-1.0, 1.0])
        target.stretch = factor ** (sign * ramp)

    def leave_return(self, index: int) -> None:
        """The object leaves the frame through the nearer side and comes back."""
        target = self.objects[index]
        gone = int(self.rng.integers(2, 5))
        leave = int(self.rng.integers(4, self.num_frames - gone - 8))
        back = leave + 4 + gone
        bump = _smooth_step(self.num_frames, leave, leave + 4)
        bump = bump - _smooth_step(self.num_frames, back, back + 4)
        left = target.centers[leave, 0] < self.size[1] / 2
        margin = max(target.reach(t) for t in range(leave, min(back + 1, self.num_frames))) + 1
        outside = -margin if left else self.size[1] + margin
        target.centers[:, 0] += bump * (outside - target.centers[:, 0])


def _contrasting_colors(rng: np.random.Generator) -> np.ndarray:
    """(2, 3) two random BGR colours far enough apart for a texture to be seen."""
    while True:
        colors = rng.uniform(0, 255, (2, 3))
        if np.linalg.norm(colors[0] - colors[1]) > 150:
            return colors


# --- rendering --------------------------------------------------------------------------------


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


@dataclass
class RenderedVideo:
    """One rendered video.

    Attributes:
        frames: T arrays (H, W, 3), uint8 BGR.
        masks: (T, N, H, W) bool, visible pixels of each object, disjoint within a frame.
        full_areas: (T, N) pixels inside the frame that the object would have without occlusion.
        labels: (N,) 0-based class indices.
        tags: names out of :data:`EVENTS`, as measured on the masks.
    """

    frames: list[np.ndarray]
    masks: np.ndarray
    full_areas: np.ndarray
    labels: np.ndarray
    tags: list[str]


def _paint(
    canvas: np.ndarray, target: MovingObject, t: int
) -> tuple[np.ndarray, tuple[slice, slice]] | None:
    """Draw ``target`` into the float BGR ``canvas``.

    Returns:
        Its mask at pixel centres, on a window, and that window; None where the object is outside.
    """
    height, width = canvas.shape[:2]
    (cx, cy), reach = target.centers[t], target.reach(t)
    x0, x1 = max(int(cx - reach), 0), min(int(cx + reach) + 2, width)
    y0, y1 = max(int(cy - reach), 0), min(int(cy + reach) + 2, height)
    if x0 >= x1 or y0 >= y1:
        return None
    shape, texture = appearance(target.label)
    offsets = (np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
    x = (np.arange(x0, x1)[:, None] + offsets).reshape(1, -1)
    y = (np.arange(y0, y1)[:, None] + offsets).reshape(-1, 1)
    u, v = target.coordinates(t, x, y)
    inside = shape(u, v).astype(float)
    share = texture(u, v)
    colors = inside[..., None] * (
        share[..., None] * target.colors[0] + (1 - share[..., None]) * target.colors[1]
    )
    blocks = (y1 - y0, SUPERSAMPLING, x1 - x0, SUPERSAMPLING)
    alpha = inside.reshape(blocks).mean(axis=(1, 3))
    premultiplied = colors.reshape(*blocks, 3).mean(axis=(1, 3))
    window = (slice(y0, y1), slice(x0, x1))
    canvas[window] = canvas[window] * (1 - alpha[..., None]) + premultiplied
    u, v = target.coordinates(t, np.arange(x0, x1)[None], np.arange(y0, y1)[:, None])
    return shape(u, v), window


def _measure_tags(plan: _VideoPlan, masks: np.ndarray, full_areas: np.ndarray) -> list[str]:
    """Which of :data:`EVENTS` really happen to an object that can be seen."""
    areas = masks.sum(axis=(2, 3))
    visible = areas >= MIN_VISIBLE_PIXELS
    tags = set()
    for n, target in enumerate(plan.objects):
        seen = np.flatnonzero(visible[:, n])
        if len(seen) == 0:
            continue
        share = areas[seen, n] / np.maximum(full_areas[seen, n], 1)
        between = slice(seen[0], seen[-1] + 1)
        covered = (full_areas[between, n] >= MIN_VISIBLE_PIXELS) & (
            areas[between, n] < 0.5 * full_areas[between, n]
        )
        if covered.any() and share.max() > 0.9:
            tags.add("occlusion")
        if (full_areas[between, n] == 0).any():
            tags.add("leave_return")
        both = visible[1:, n] & visible[:-1, n]
        overlap = (masks[1:, n] & masks[:-1, n]).sum(axis=(1, 2))
        if (both & (overlap < 0.1 * np.minimum(areas[1:, n], areas[:-1, n]))).any():
            tags.add("fast_motion")
        if target.radii[seen].max() >= 2 * target.radii[seen].min():
            tags.add("scale_change")
        if target.stretch[seen].max() >= 1.8 * target.stretch[seen].min():
            tags.add("aspect_ratio_change")
    return [event for event in EVENTS if event in tags]


def render_video(
    rng: np.random.Generator,
    num_frames: int,
    size: tuple[int, int],
    num_classes: int,
    events: Sequence[str],
) -> RenderedVideo:
    """Plan and render one video.

    Args:
        rng: The video's own random generator.
        num_frames: T, at least 24 (the events need room).
        size: Height and width in pixels.
        num_classes: Classes to draw labels from, at most ``len(SHAPES) * len(TEXTURES)``.
        events: Names out of :data:`EVENTS` that are to happen, each to about a third of the
            objects.

    Returns:
        The frames, masks, labels and measured tags.
    """
    plan = _VideoPlan(rng, num_frames, size)
    # An occlusion needs an object in front and one behind.
    num_objects = int(rng.integers(2 if "occlusion" in events else 1, 6))
    for label in rng.integers(0, num_classes, num_objects):
        plan.add_object(int(label))
    for event in EVENTS:
        if event not in events:
            continue
        first = 1 if event == "occlusion" else 0
        candidates = np.arange(first, num_objects)
        for index in rng.permutation(candidates)[: (num_objects + 2) // 3]:
            getattr(plan, event)(int(index))

    background = Background(rng, num_frames, size)
    frames = []
    masks = np.zeros((num_frames, num_objects, *size), dtype=bool)
    full_areas = np.zeros((num_frames, num_objects), dtype=int)
    for t in range(num_frames):
        canvas = background.frame(t).astype(np.float64)
        for n, target in enumerate(plan.objects):  # painted from back to front
            painted = _paint(canvas, target, t)
            if painted is None:
                continue
            inside, window = painted
            masks[(t, slice(0, n), *window)] &= ~inside
            masks[(t, n, *window)] = inside
            full_areas[t, n] = inside.sum()
        canvas += rng.normal(0, 3, canvas.shape)
        frames.append(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))
    labels = np.array([target.label for target in plan.objects])
    return RenderedVideo(frames, masks, full_areas, labels, _measure_tags(plan, masks, full_areas))


# --- the dataset ------------------------------------------------------------------------------


def planned_events(index: int) -> tuple[str, str]:
    """The two events planned for a video: all ten pairs in turn, so each in four videos of ten."""
    pairs = [(a, b) for i, a in enumerate(EVENTS) for b in EVENTS[i + 1 :]]
    return pairs[index % len(pairs)]


def generate_video(
    seed: int,
    split: str,
    index: int,
    length: tuple[int, int],
    size: tuple[int, int],
    num_classes: int,
) -> RenderedVideo:
    """Video ``index`` of a split; a function of its arguments alone.

    Args:
        seed: Seed of the dataset.
        split: ``'train'`` or ``'valid'``; the two never share a random stream.
        index: 0-based index of the video in its split.
        length: Smallest and largest number of frames.
        size: Height and width in pixels.
        num_classes: Number of classes.

    Returns:
        The rendered video.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    num_frames = int(rng.integers(length[0], length[1] + 1))
    return render_video(rng, num_frames, size, num_classes, planned_events(index))


def _annotations(video: RenderedVideo) -> Iterator[dict]:
    """Official-format annotations (without ids) of the objects that are seen at all."""
    height, width = video.masks.shape[2:]
    for n, label in enumerate(video.labels):
        areas = video.masks[:, n].sum(axis=(1, 2))
        seen = areas >= MIN_VISIBLE_PIXELS
        if not seen.any():
            continue
        rles = mask_utils.encode(np.asfortranarray(video.masks[:, n].transpose(1, 2, 0)).view("u1"))
        boxes = mask_utils.toBbox(rles)
        segmentations = [
            dict(size=[height, width], counts=rle["counts"].decode()) if present else None
            for rle, present in zip(rles, seen, strict=True)
        ]
        yield dict(
            category_id=int(label) + 1,
            iscrowd=0,
            width=width,
            height=height,
            length=len(seen),
            segmentations=segmentations,
            bboxes=[box.tolist() if p else None for box, p in zip(boxes, seen, strict=True)],
            areas=[int(area) if p else None for area, p in zip(areas, seen, strict=True)],
        )


def _write_frames(folder: Path, frames: Sequence[np.ndarray]) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"{t:05d}.jpg" for t in range(len(frames))]
    for name, frame in zip(names, frames, strict=True):
        if not cv2.imwrite(str(folder / name), frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f"cannot write {folder / name}: is the disk full?")
    return names


def _write_video(
    root: Path,
    split: str,
    index: int,
    seed: int,
    length: tuple[int, int],
    size: tuple[int, int],
    num_classes: int,
) -> tuple[dict, list[dict]]:
    """Writes one video's frames; its entry in ``videos``, and its annotations without ids."""
    video = generate_video(seed, split, index, length, size, num_classes)
    name = f"{split}_{index:04d}"
    files = _write_frames(root / split / "JPEGImages" / name, video.frames)
    entry = dict(
        id=index + 1,
        width=size[1],
        height=size[0],
        length=len(files),
        file_names=[f"{name}/{file}" for file in files],
        tags=video.tags,
    )
    return entry, list(_annotations(video))


def make_shapes_vis(
    root: str | os.PathLike,
    train_videos: int = 240,
    valid_videos: int = 60,
    length: tuple[int, int] = (24, 36),
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    categories: str = "shapes",
    progress: Callable[[Iterator, int], Iterator] = lambda items, total: items,
) -> dict[str, Path]:
    """Write ShapesVIS in the official layout.

    ``root`` gets ``{train,valid}.json`` and ``{train,valid}/JPEGImages/<video>/<frame>.jpg``. It is
    written beside the target and renamed, so that an interrupted run leaves no half dataset.
    One process a core writes videos; the result does not depend on their number.

    Args:
        root: Folder to write; must not exist or be empty.
        train_videos: Number of training videos; at least 1.
        valid_videos: Number of validation videos; at least 1.
        length: Smallest and largest number of frames of a video; at least 24.
        size: Height and width in pixels; at least 64 each.
        seed: Seed of the dataset.
        categories: Category list: ``'shapes'`` or that of a benchmark: ``'ytvis19'``,
            ``'ytvis21'`` or ``'ovis'``.
        progress: Wraps an iterator over ``total`` videos, to show progress.

    Returns:
        Split name -> path of its JSON.

    Raises:
        ValueError: If an argument is out of its range.
        FileExistsError: If ``root`` holds something already.
    """
    root = Path(root)
    if categories not in CATEGORIES:
        raise ValueError(f"categories is {categories!r}; choose one of {', '.join(CATEGORIES)}")
    if not 24 <= length[0] <= length[1]:
        raise ValueError(f"length is {length}; it wants 24 <= shortest <= longest")
    if min(size) < 64:
        raise ValueError(f"size is {size[0]} x {size[1]}; both sides want at least 64 pixels")
    if min(train_videos, valid_videos) < 1:
        raise ValueError("each split wants at least one video")
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty: remove it or write to another folder")

    names = CATEGORIES[categories]
    counts = dict(train=train_videos, valid=valid_videos)
    jobs = [(split, index) for split in SPLITS for index in range(counts[split])]
    datasets = {split: _empty_dataset(split, seed, names) for split in SPLITS}
    with creating(root) as unfinished:
        write = partial(
            _write_video, unfinished, seed=seed, length=length, size=size, num_classes=len(names)
        )
        with ProcessPoolExecutor(min(len(jobs), os.cpu_count())) as pool:
            written = pool.map(write, *zip(*jobs, strict=True))
            for (split, _), (video, annotations) in zip(
                jobs, progress(written, len(jobs)), strict=True
            ):
                dataset = datasets[split]
                dataset["videos"].append(video)
                for annotation in annotations:
                    identity = dict(id=len(dataset["annotations"]) + 1, video_id=video["id"])
                    dataset["annotations"].append(identity | annotation)
        for split, dataset in datasets.items():
            (unfinished / f"{split}.json").write_text(json.dumps(dataset))
    return {split: root / f"{split}.json" for split in SPLITS}


def _empty_dataset(split: str, seed: int, names: Sequence[str]) -> dict:
    return dict(
        info=dict(description=f"ShapesVIS {split}", version=VERSION, seed=seed),
        categories=[
            dict(id=i + 1, name=name, supercategory="object") for i, name in enumerate(names)
        ],
        videos=[],
        annotations=[],
    )
