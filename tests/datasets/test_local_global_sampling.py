"""Clips of a key frame, its neighbourhood and frames from all over the video."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from mmvis_plugin.datasets import YTVISDataset
from mmvis_plugin.datasets.shapes_vis import make_shapes_vis
from mmvis_plugin.datasets.transforms import LocalGlobalClipSample

CONFIG = Path(__file__).parents[2] / "configs/mssts/seqformer_r50_ytvis19.py"


@given(
    num_frames=st.integers(3, 8),
    local_range=st.integers(1, 4),
    length=st.integers(1, 40),
    key=st.integers(0, 39),
    seed=st.integers(0, 10**6),
)
def test_frames_of_a_clip(num_frames, local_range, length, key, seed):
    key = min(key, length - 1)
    random.seed(seed)
    frames = LocalGlobalClipSample(num_frames, local_range).sample_frames(length, key)
    assert len(frames) == num_frames and frames == sorted(frames)
    assert key in frames and all(0 <= frame < length for frame in frames)
    # One neighbour on each side, or the key frame again at an end of the video.
    for ahead, end in ((range(1, local_range + 1), length - 1), (range(-local_range, 0), 0)):
        assert (key == end) or any(key + step in frames for step in ahead)
    if length > num_frames + 2 * local_range and 0 < key < length - 1:
        assert len(set(frames)) == num_frames


def test_frames_come_from_all_over_the_video():
    random.seed(0)
    sample = LocalGlobalClipSample(5, 3)
    clips = [sample.sample_frames(100, 50) for _ in range(2000)]
    shown = {frame for clip in clips for frame in clip}
    assert shown == set(range(100))
    before = {max(f for f in clip if f < 50) for clip in clips}
    assert {47, 48, 49} <= before


def test_frames_of_a_sample():
    random.seed(0)
    images = [dict(img_path=f"{t}.jpg", frame_id=t) for t in range(20)]
    sample = dict(images=images, video_id=7, video_length=20, key_frame_id=0)
    clip = LocalGlobalClipSample(5)(sample)
    assert clip["frame_id"] == sorted(clip["frame_id"]) and clip["frame_id"][:2] == [0, 0]
    assert clip["img_path"] == [f"{t}.jpg" for t in clip["frame_id"]]
    assert clip["ori_video_length"] == [20] * 5


@pytest.mark.parametrize(
    ("values", "message"),
    [((2, 3), "num_frames must be at least 3, got 2"), ((5, 0), "local_range must be at least 1")],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        LocalGlobalClipSample(*values)


def test_the_augmentation_treats_the_frames_of_a_clip_alike(tmp_path):
    """Random choices inside of random choices: same sizes, flips and crops in every frame."""
    init_default_scope("mmdet")
    make_shapes_vis(tmp_path, 1, 1, length=(24, 24), size=(96, 128))
    config = Config.fromfile(CONFIG, import_custom_modules=False)
    pipeline = config.train_dataloader.dataset.pipeline
    # Five times the same frame must give five times the same picture.
    pipeline[0] = dict(
        type="UniformRefFrameSample", num_ref_imgs=4, frame_range=[0, 0], filter_key_img=False
    )
    pipeline[1]["transforms"] = [
        t for t in pipeline[1]["transforms"] if t["type"] != "PhotoMetricDistortion"
    ]
    dataset = YTVISDataset(
        data_root=str(tmp_path),
        ann_file="train.json",
        data_prefix=dict(img_path="train/JPEGImages/"),
        pipeline=[],
    )
    transform = Compose([TRANSFORMS.build(t) for t in pipeline])
    sizes = set()
    for seed in range(12):
        random.seed(seed)
        np.random.seed(seed)
        packed = transform(dataset.get_data_info(0) | dict(key_frame_id=3))
        frames = packed["inputs"]
        assert (frames == frames[:1]).all()
        sizes.add(tuple(frames.shape[-2:]))
        short, long = sorted(frames.shape[-2:])
        assert short <= 512 and long <= 768
    assert len(sizes) > 4
