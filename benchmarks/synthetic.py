"""Synthetic annotations and results in the YouTube-VIS layout, of any size, quickly.

Objects are star-shaped blobs that drift, change size and are absent now and then; their outline is
rough, so that their run-length encoding is about as long as that of a real mask. The runs are
written column by column, without drawing a mask.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmvis_plugin.ytvis.rle import compress_runs, mask_areas


class Scene(NamedTuple):
    """Sizes of a synthetic dataset."""

    videos: int = 300
    frames: int = 25
    classes: int = 40
    objects: int = 10  # annotated, per video
    height: int = 720
    width: int = 1280


def make_annotations(scene: Scene, seed: int = 0) -> dict:
    """Give annotations in the official layout, masks as compressed RLE with their areas.

    Each annotation has a key more, ``blobs``, by which :func:`make_results` follows it.
    """
    rng = np.random.default_rng(seed)
    videos = [
        {
            "id": video + 1,
            "height": scene.height,
            "width": scene.width,
            "length": scene.frames,
            "file_names": [f"{video:05d}/{frame:05d}.jpg" for frame in range(scene.frames)],
        }
        for video in range(scene.videos)
    ]
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(scene.classes)]
    annotations = []
    for video in videos:
        for _ in range(scene.objects):
            blobs = random_track(rng, scene)
            masks = [blob and encode_blob(rng, *blob, scene) for blob in blobs]
            areas = mask_areas(
                [mask["counts"] if mask else "" for mask in masks], scene.height, scene.width
            ).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": video["id"],
                    "category_id": int(rng.integers(scene.classes)) + 1,
                    "iscrowd": 0,
                    "height": scene.height,
                    "width": scene.width,
                    "length": scene.frames,
                    "segmentations": masks,
                    "bboxes": [blob and blob_box(*blob, scene) for blob in blobs],
                    "areas": [area or None for area in areas],
                    "blobs": blobs,
                }
            )
    return {"videos": videos, "categories": categories, "annotations": annotations}


def make_results(gt: dict, scene: Scene, tracks_per_video: int, seed: int = 1) -> list[dict]:
    """Give results for annotations of :func:`make_annotations`.

    Half of the tracks follow a ground truth of their class, more or less closely, the others are
    somewhere and of any class.
    """
    rng = np.random.default_rng(seed)
    objects = {}
    for annotation in gt["annotations"]:
        objects.setdefault(annotation["video_id"], []).append(annotation)
    results = []
    for video in gt["videos"]:
        for track in range(tracks_per_video):
            category_id = int(rng.integers(scene.classes)) + 1
            blobs = random_track(rng, scene)
            if track % 2 == 0:
                target = objects[video["id"]][rng.integers(scene.objects)]
                category_id = target["category_id"]
                blobs = jitter(rng, target["blobs"])
            results.append(
                {
                    "video_id": video["id"],
                    "category_id": category_id,
                    "score": float(rng.random()),
                    "segmentations": [blob and encode_blob(rng, *blob, scene) for blob in blobs],
                }
            )
    return results


def write_scene(folder: Path, scene: Scene, tracks_per_video: int) -> None:
    """Write annotations and results as ``gt.json`` and ``results.json``, as they would come."""
    gt = make_annotations(scene)
    results = make_results(gt, scene, tracks_per_video)
    for annotation in gt["annotations"]:
        del annotation["blobs"]
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "gt.json").write_text(json.dumps(gt))


def random_track(rng: np.random.Generator, scene: Scene) -> list[tuple | None]:
    """Give a blob (x, y, radius) per frame, None in a tenth of them."""
    largest = min(scene.height, scene.width) / 3.5
    radius = largest * np.exp(rng.uniform(np.log(0.2), 0) + rng.normal(0, 0.02, scene.frames))
    x = rng.uniform(0, scene.width) + np.cumsum(rng.normal(0, scene.width / 200, scene.frames))
    y = rng.uniform(0, scene.height) + np.cumsum(rng.normal(0, scene.height / 200, scene.frames))
    present = rng.random(scene.frames) > 0.1
    present[rng.integers(scene.frames)] = True
    blobs = zip(x.tolist(), y.tolist(), radius.tolist(), present.tolist(), strict=True)
    return [(bx, by, r) if seen else None for bx, by, r, seen in blobs]


def jitter(rng: np.random.Generator, blobs: list[tuple | None]) -> list[tuple | None]:
    """Give the blobs of a prediction of a track: a little beside it, some frames missing."""
    error = rng.uniform(0, 0.25)
    return [
        blob
        and (rng.random() > 0.05 or None)
        and (
            blob[0] + float(rng.normal(0, error)) * blob[2],
            blob[1] + float(rng.normal(0, error)) * blob[2],
            blob[2] * float(np.exp(rng.normal(0, error))),
        )
        for blob in blobs
    ]


def blob_box(x: float, y: float, radius: float, scene: Scene) -> list[float]:
    """Give a box (x, y, w, h) around a blob, about as tight as an annotator's."""
    left, top = max(x - radius, 0), max(y - radius, 0)
    right, bottom = min(x + radius, scene.width), min(y + radius, scene.height)
    return [left, top, max(right - left, 2), max(bottom - top, 2)]


def encode_blob(rng: np.random.Generator, x: float, y: float, radius: float, scene: Scene) -> dict:
    """Give a rough disc as compressed RLE; at least a pixel of it is in the frame."""
    height, width = scene.height, scene.width
    x, y = min(max(x, 1), width - 2), min(max(y, 1), height - 2)
    columns = np.arange(max(int(x - radius), 0), min(int(x + radius) + 1, width))
    half = np.sqrt(np.maximum(radius**2 - (columns - x) ** 2, 1))
    rough = np.cumsum(rng.normal(0, 1, (2, len(columns))), axis=1)
    edges = np.stack([y - half + rough[0], y + half + rough[1]], axis=1)
    edges[:, 0] = edges[:, 0].clip(0, height - 2)
    edges[:, 1] = np.maximum(edges[:, 1].clip(0, height - 1), edges[:, 0] + 1)
    edges = (edges.astype(np.int64) + columns[:, None] * height).ravel()
    runs = np.diff(edges, prepend=0, append=height * width)
    return {"size": [height, width], "counts": compress_runs(runs)}
