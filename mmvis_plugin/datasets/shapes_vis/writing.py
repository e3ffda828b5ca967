"""The files of ShapesVIS: frames and annotations in the official YouTube-VIS layout."""

import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from mmvis_plugin.files import creating
from mmvis_plugin.processes import start_worker
from mmvis_plugin.ytvis.categories import CATEGORIES

from . import version1, version2
from .events import MIN_VISIBLE_PIXELS, measure_tags
from .motion import VideoPlan
from .rendering import RenderedVideo, render_frames, render_masks

SPLITS = ("train", "valid")
JPEG_QUALITY = 95

# (rng, number of frames, size, number of classes, 0-based index of the video in its split) -> plan
Planner = Callable[[np.random.Generator, int, tuple[int, int], int, int], VideoPlan]


class Version(NamedTuple):
    """A version of ShapesVIS.

    Attributes:
        name: In the JSON's ``info``.
        plan_video: Plans a video.
        valid_videos: Default number of validation videos.
        length: Default for the smallest and largest number of frames.
    """

    name: str
    plan_video: Planner
    valid_videos: int
    length: tuple[int, int]


VERSIONS = {
    1: Version("1.0", version1.plan_video, 60, (24, 36)),
    2: Version("2.0", version2.plan_video, 120, (24, 60)),
}
LATEST = max(VERSIONS)


def generate_video(
    seed: int,
    split: str,
    index: int,
    length: tuple[int, int],
    size: tuple[int, int],
    num_classes: int,
    version: int = LATEST,
    only_masks: bool = False,
) -> RenderedVideo:
    """Video ``index`` of a split; a function of its arguments alone.

    Args:
        seed: Seed of the dataset.
        split: ``'train'`` or ``'valid'``; the two never share a random stream.
        index: 0-based index of the video in its split.
        length: Smallest and largest number of frames.
        size: Height and width in pixels.
        num_classes: Number of classes, at most ``len(SHAPES) * len(TEXTURES)``.
        version: Version of the dataset.
        only_masks: Leave out the frames, which takes a tenth of the time.

    Returns:
        The rendered video.
    """
    stream = [seed, SPLITS.index(split), index]
    rng = np.random.default_rng(stream if version == 1 else [*stream, version])
    num_frames = int(rng.integers(length[0], length[1] + 1))
    plan = VERSIONS[version].plan_video(rng, num_frames, size, num_classes, index)
    masks, full_areas = render_masks(plan)
    frames = [] if only_masks else render_frames(plan)
    labels = np.array([target.label for target in plan.objects])
    tags = measure_tags(version, plan, masks, full_areas)
    return RenderedVideo(frames, masks, full_areas, labels, *tags)


def track_annotations(video: RenderedVideo) -> Iterator[dict]:
    """Official-format annotations (without ids) of the objects that are seen at all.

    Args:
        video: A rendered video.

    Yields:
        dict: An annotation; its ``tags`` are the events of the object.
    """
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
            tags=video.object_tags[n],
        )


def make_shapes_vis(
    root: str | os.PathLike,
    train_videos: int = 240,
    valid_videos: int | None = None,
    length: tuple[int, int] | None = None,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    categories: str = "shapes",
    version: int = LATEST,
    progress: Callable[[Iterator, int], Iterator] = lambda items, total: items,
) -> dict[str, Path]:
    """Write ShapesVIS in the official layout.

    ``root`` gets ``{train,valid}.json`` and ``{train,valid}/JPEGImages/<video>/<frame>.jpg``. It is
    written beside the target and renamed, so that an interrupted run leaves no half dataset.
    One process a core writes videos; the result does not depend on their number.

    Args:
        root: Folder to write; must not exist or be empty.
        train_videos: Number of training videos; at least 1.
        valid_videos: Number of validation videos; at least 1. Default: of the version.
        length: Smallest and largest number of frames of a video; at least 24. Default: of the
            version.
        size: Height and width in pixels; at least 64 each.
        seed: Seed of the dataset.
        categories: Category list: ``'shapes'`` or one of a benchmark: ``'ytvis19'``,
            ``'ytvis21'`` or ``'ovis'``.
        version: Version of the dataset.
        progress: Wraps an iterator over ``total`` videos, to show progress.

    Returns:
        Split name -> path of its JSON.

    Raises:
        ValueError: If an argument is out of its range.
        FileExistsError: If ``root`` holds something already.
    """
    root = Path(root)
    if version not in VERSIONS:
        raise ValueError(f"version is {version}; choose one of {', '.join(map(str, VERSIONS))}")
    valid_videos = VERSIONS[version].valid_videos if valid_videos is None else valid_videos
    length = VERSIONS[version].length if length is None else length
    if categories not in CATEGORIES:
        raise ValueError(f"categories is {categories!r}; choose one of {', '.join(CATEGORIES)}")
    if not 24 <= length[0] <= length[1]:
        raise ValueError(f"length is {length}; it must be 24 <= shortest <= longest")
    if min(size) < 64:
        raise ValueError(f"size is {size[0]} x {size[1]}; both sides must be at least 64 pixels")
    if min(train_videos, valid_videos) < 1:
        raise ValueError("each split needs at least one video")
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty: remove it or write to another folder")

    names = CATEGORIES[categories]
    counts = dict(train=train_videos, valid=valid_videos)
    jobs = [(split, index) for split in SPLITS for index in range(counts[split])]
    datasets = {split: _empty_dataset(split, version, seed, names) for split in SPLITS}
    with creating(root) as unfinished:
        write = partial(
            _write_video,
            unfinished,
            seed=seed,
            length=length,
            size=size,
            num_classes=len(names),
            version=version,
        )
        written = _in_processes(write, jobs)
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


def _in_processes(function: Callable, jobs: Sequence[tuple]) -> Iterator:
    """Results of ``function(*job)`` in order, from one process a core."""
    start = partial(start_worker, os.getpid(), None, 0)
    pool = ProcessPoolExecutor(min(len(jobs), os.cpu_count()), initializer=start)
    # Garbage of this process may have threads, PyAV's for example. A forked process has not, and
    # would wait for them for ever when it collects its copy.
    gc.freeze()
    try:
        yield from pool.map(function, *zip(*jobs, strict=True))
    finally:
        gc.unfreeze()
        pool.shutdown(cancel_futures=True)


def _write_video(
    root: Path, split: str, index: int, *, seed: int, size: tuple[int, int], version: int, **kwargs
) -> tuple[dict, list[dict]]:
    """Write one video's frames; its entry in ``videos``, and its annotations without ids."""
    video = generate_video(seed, split, index, size=size, version=version, **kwargs)
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
    annotations = list(track_annotations(video))
    if version == 1:  # whose objects have no tags
        for annotation in annotations:
            del annotation["tags"]
    return entry, annotations


def _write_frames(folder: Path, frames: Sequence[np.ndarray]) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"{t:05d}.jpg" for t in range(len(frames))]
    for name, frame in zip(names, frames, strict=True):
        if not cv2.imwrite(str(folder / name), frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f"cannot write {folder / name}: is the disk full?")
    return names


def _empty_dataset(split: str, version: int, seed: int, names: Sequence[str]) -> dict:
    return dict(
        info=dict(description=f"ShapesVIS {split}", version=VERSIONS[version].name, seed=seed),
        categories=[
            dict(id=i + 1, name=name, supercategory="object") for i, name in enumerate(names)
        ],
        videos=[],
        annotations=[],
    )
