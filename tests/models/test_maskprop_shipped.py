"""What MaskProp's attention map, competition and refinement are for, on the shipped weights."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as mask_utils
from segmenting import SegmentedVideo
from torch import Tensor

from mmvis_plugin.apis import build_video_segmentor
from mmvis_plugin.apis.model_run import ModelRun
from mmvis_plugin.datasets.shapes_vis import generate_video
from mmvis_plugin.ytvis.categories import SHAPES

CONFIG = Path(__file__).parents[2] / "configs/maskprop/maskprop_r18_v2_shapes.py"
DISTANCE = 3  # frames between the key frame and the one that its masks are looked at in


class Video(NamedTuple):
    """Attributes:
    frames: T ``ObservedFrame``.
    objects: (T, N, H', W') share of each cell of the grid that each object covers.
    """

    frames: list
    objects: Tensor


@pytest.fixture(scope="module")
def model():
    return build_video_segmentor(CONFIG, device="cpu")


@pytest.fixture(scope="module")
def rendered():
    """Videos of a seed that nothing was trained on."""
    return [generate_video(7, "valid", n, (24, 24), (96, 128), len(SHAPES), 2) for n in range(6)]


@pytest.fixture(scope="module")
@torch.no_grad()
def videos(model, rendered):
    run = ModelRun(model)
    stride = model.propagation_head.stride
    videos = []
    for video in rendered:
        frames = []
        for number, image in enumerate(video.frames):
            inputs, metas = run.collate([run.prepare(image, number)])
            frames.append(model._observe(inputs[0], metas[0]))
        objects = F.avg_pool2d(torch.from_numpy(video.masks).float(), stride)
        videos.append(Video(frames, objects))
    return videos


def found_objects(video: Video, key: int) -> list[tuple[int, int]]:
    """(instance, object) of the instances of a frame whose mask is mostly that of an object."""
    found = video.frames[key].instances.grid_masks.flatten(1)
    objects = video.objects[key].flatten(1)
    shared = found @ objects.T
    ious = shared / (found.sum(1)[:, None] + objects.sum(1) - shared).clamp(min=1e-6)
    return [(n, int(row.argmax())) for n, row in enumerate(ious) if len(row) and row.max() > 0.4]


@torch.no_grad()
def mass_on_others(model, videos: list[Video], distance: int) -> float:
    """Mean share of a propagated mask that lies on objects other than its own."""
    shares = []
    for video in videos:
        for key in range(0, len(video.frames) - distance, 4):
            frame = video.frames[key]
            other = video.frames[key + distance]
            masks = model.propagation_head.propagate(
                frame.features,
                torch.stack([frame.features, other.features]),
                frame.instances.grid_masks,
            )[:, 1 if distance else 0]
            for instance, own in found_objects(video, key):
                others = video.objects[key + distance].sum(0) - video.objects[key + distance, own]
                if video.objects[key + distance, own].sum() >= 1:
                    mask = masks[instance]
                    shares.append(float((mask * others.clamp(0, 1)).sum() / mask.sum()))
    assert len(shares) > 50
    return float(np.mean(shares))


@torch.no_grad()
def test_the_attention_map_keeps_objects_and_zeroes_the_rest(model, videos):
    inside, outside = [], []
    for video in videos:
        features = torch.stack([frame.features for frame in video.frames])
        attention = model.propagation_head.attention(features).sigmoid()[:, 0]
        covered = video.objects.sum(1)
        inside.append(attention[covered >= 0.5])
        outside.append(attention[covered == 0])
    assert torch.cat(inside).mean() > 0.8
    assert torch.cat(outside).mean() < 0.1


def test_propagated_masks_stay_on_their_object(model, videos):
    assert mass_on_others(model, videos, 0) <= 0.15
    assert mass_on_others(model, videos, DISTANCE) <= 0.25


def test_final_masks_of_two_instances_share_little(model, rendered):
    shared = []
    for video in rendered:
        for _, result in SegmentedVideo(model, video.frames):
            masks = [mask_utils.decode(m) for m in result.pred_track_instances.masks]
            for n, mask in enumerate(masks):
                for other in masks[:n]:
                    shared.append((mask & other).sum() / min(mask.sum(), other.sum()))
    assert len(shared) > 100
    assert np.mean(shared) < 0.05
