"""Clips of frames within a range around the key frame."""

import random

import pytest

from mmvis_plugin.datasets.transforms import RangeClipSample


def test_frames_are_near_the_key_frame_and_may_repeat():
    random.seed(0)
    sampler = RangeClipSample(num_frames=5, frame_range=4)
    drawn, repeated = set(), 0
    for _ in range(300):
        frames = sampler.sample_frames(30, 10)
        assert len(frames) == 5 and frames == sorted(frames) and frames.count(10) == 1
        repeated += len(set(frames)) < 5
        drawn.update(frames)
    assert drawn == set(range(6, 15))
    # Four draws of eight frames differ with 8 * 7 * 6 * 5 / 8**4 = 41 %.
    assert 0.5 < repeated / 300 < 0.7


def test_ends_of_the_video():
    random.seed(0)
    sampler = RangeClipSample(num_frames=5, frame_range=20)
    first = {f for _ in range(100) for f in sampler.sample_frames(8, 0)}
    assert first == set(range(8))
    assert sampler.sample_frames(1, 0) == [0] * 5
    assert RangeClipSample(num_frames=1).sample_frames(9, 4) == [4]


def test_a_sample_has_the_values_of_its_frames():
    images = [dict(img_path=f"{t}.jpg", frame_id=t, instances=[]) for t in range(6)]
    video = dict(images=images, video_id=3, video_length=6, key_frame_id=2)
    clip = RangeClipSample(num_frames=3, frame_range=2)(video)
    assert 2 in clip["frame_id"] and len(clip["frame_id"]) == 3
    assert clip["img_path"] == [f"{t}.jpg" for t in clip["frame_id"]]
    assert clip["ori_video_length"] == [6] * 3


@pytest.mark.parametrize("values", [dict(num_frames=0), dict(frame_range=0)])
def test_numbers_out_of_range(values):
    with pytest.raises(ValueError, match="at least 1"):
        RangeClipSample(**values)
