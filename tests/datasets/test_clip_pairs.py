"""ClipSample: which frames make a clip, and which two clips make a pair."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from ytvis_content import small_content, write_content

from mmvis_plugin.datasets import ClipSample, FrameIndex


def starts(video_length, clip_length, key, num_clips=2, seed=0):
    random.seed(seed)
    return ClipSample(clip_length, num_clips).sample_starts(video_length, key)


@given(
    video_length=st.integers(1, 30),
    clip_length=st.integers(1, 12),
    num_clips=st.integers(1, 2),
    seed=st.integers(0, 100),
    data=st.data(),
)
def test_clips_lie_in_the_video_and_one_holds_the_key_frame(
    video_length, clip_length, num_clips, seed, data
):
    key = data.draw(st.integers(0, video_length - 1))
    found = starts(video_length, clip_length, key, num_clips, seed)
    assert len(found) == num_clips
    assert all(0 <= s <= max(0, video_length - clip_length) for s in found)
    assert any(s <= key < s + clip_length for s in found)
    if num_clips == 2:
        gap = abs(found[0] - found[1])
        last = max(0, video_length - clip_length)
        # Where they overlap, one of them is at an end of the video: no more room is to be had.
        assert gap >= clip_length or (0 in found or last in found)
        if video_length >= 3 * clip_length:
            assert gap >= clip_length


def test_both_orders_and_every_other_clip_occur():
    pairs = {tuple(starts(12, 4, 5, seed=seed)) for seed in range(400)}
    assert {a < b for a, b in pairs} == {True, False}
    firsts = {s for pair in pairs for s in pair if s <= 5 < s + 4}
    assert firsts == {2, 3, 4, 5}
    assert {b for a, b in pairs if a == 4} == {0, 8}


def test_overlap_is_as_small_as_it_can_be():
    assert {tuple(sorted(starts(10, 6, 0, seed=s))) for s in range(20)} == {(0, 4)}
    # From the middle, whichever end is farther.
    assert {tuple(sorted(starts(10, 6, 9, seed=s))) for s in range(20)} == {(0, 4)}


@pytest.fixture()
def root(tmp_path):
    return write_content(tmp_path, small_content())


def build(root, *transforms):
    return DATASETS.build(
        dict(
            type="YTVISDataset",
            data_root=str(root),
            ann_file="train.json",
            data_prefix=dict(img_path="train/JPEGImages/"),
            pipeline=list(transforms),
        )
    )


def test_a_video_shorter_than_the_clip_is_padded(root):
    """The first video has 4 frames."""
    clip = build(root, dict(type="ClipSample", clip_length=6, num_clips=2))[0, 2]
    assert clip["frame_id"] == [0, 1, 2, 3, 3, 3] * 2
    assert clip["is_padding"] == ([False] * 4 + [True] * 2) * 2
    assert clip["video_id"] == [7] * 12 and clip["ori_video_length"] == [4] * 12


def test_padding_is_packed_and_samples_repeat(root):
    dataset = build(
        root,
        dict(type="ClipSample", clip_length=6),
        dict(type="TransformBroadcaster", transforms=[dict(type="LoadFrame")]),
        dict(type="PackTrackInputs", meta_keys=("is_padding",)),
    )
    sample = dataset[0, 0]["data_samples"]
    assert [frame.is_padding for frame in sample.video_data_samples] == [False] * 4 + [True] * 2

    pairs = build(root, dict(type="ClipSample", clip_length=1, num_clips=2))
    drawn = [[pairs[FrameIndex(0, 1, seed)]["frame_id"] for seed in range(8)] for _ in range(2)]
    assert drawn[0] == drawn[1] and len({tuple(ids) for ids in drawn[0]}) > 2


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="clip_length must be at least 1, got 0"):
        ClipSample(0)
    with pytest.raises(ValueError, match="num_clips must be 1 or 2, got 3"):
        ClipSample(4, num_clips=3)
    assert repr(ClipSample(4, 2)) == "ClipSample(clip_length=4, num_clips=2)"
