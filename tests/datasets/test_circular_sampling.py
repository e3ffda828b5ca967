"""Clips that go round in their video."""

import random

import pytest
from mmdet.registry import TRANSFORMS

from mmvis_plugin.datasets.transforms import CircularClipSample


def clip(length, num_frames, key_frame=None, **kwargs):
    """Frames of a clip."""
    images = [dict(img_path=f"{t}.jpg", frame_id=t) for t in range(num_frames)]
    video = dict(images=images, video_id=3, video_length=num_frames)
    if key_frame is not None:
        video["key_frame_id"] = key_frame
    transform = TRANSFORMS.build(dict(type="CircularClipSample", length=length, **kwargs))
    return transform(video)


def test_consecutive_frames_end_with_the_key_frame():
    results = clip(4, 10, key_frame=6)
    assert results["frame_id"] == [3, 4, 5, 6]
    assert results["img_path"] == ["3.jpg", "4.jpg", "5.jpg", "6.jpg"]
    assert results["video_length"] == [4] * 4 or results["video_length"] == 4
    assert clip(4, 10, key_frame=1)["frame_id"] == [8, 9, 0, 1]


def test_a_short_video_is_repeated():
    """As in VisTR's data loader, which counts frames before the first from the end."""
    for num_frames in (1, 2, 3, 5):
        for key_frame in range(num_frames):
            theirs = [list(range(num_frames))[key_frame - (7 - j) % num_frames] for j in range(8)]
            assert clip(8, num_frames, key_frame)["frame_id"] == theirs


def test_random_order_keeps_the_frames():
    random.seed(0)
    orders = [clip(6, 9, key_frame=7, shuffle=True)["frame_id"] for _ in range(20)]
    assert all(sorted(order) == [2, 3, 4, 5, 6, 7] for order in orders)
    assert len({tuple(order) for order in orders}) > 15


def test_without_a_key_frame_one_is_drawn():
    random.seed(0)
    assert {clip(2, 4)["frame_id"][-1] for _ in range(40)} == {0, 1, 2, 3}


def test_a_clip_has_frames():
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        CircularClipSample(0)
