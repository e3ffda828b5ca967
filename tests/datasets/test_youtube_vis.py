import copy
import json
import random
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmdet.registry import TRANSFORMS
from mmengine.dataset import BaseDataset
from pycocotools import mask as mask_util
from ytvis_content import (
    annotation,
    box_mask,
    compressed,
    small_content,
    uncompressed,
    video,
    write_content,
)

from mmvis_plugin.datasets import DatasetError, FrameIndex, YTVISDataset


def make(root, **kwargs):
    kwargs = dict(ann_file="train.json", data_prefix=dict(img_path="train/JPEGImages/")) | kwargs
    return YTVISDataset(data_root=str(root), **kwargs)


@pytest.fixture()
def root(tmp_path):
    return write_content(tmp_path, small_content())


def instances(dataset, video, frame):
    return dataset.get_data_info(video)["images"][frame]["instances"]


# --- what is read -----------------------------------------------------------------------------


def test_all_mask_formats_give_the_same_instance(root):
    dataset = make(root)
    for frame in (0, 2, 3):
        seen = instances(dataset, 0, frame)[0]
        assert np.array_equal(mask_util.decode(seen["mask"]), box_mask(4, 5, 6, 7))
        assert isinstance(seen["mask"]["counts"], str)
        assert (seen["bbox_label"], seen["instance_id"], seen["ignore_flag"]) == (1, 0, 0)


def test_boxes_come_from_the_json_else_from_the_mask(root):
    dataset = make(root)
    assert instances(dataset, 0, 2)[0]["bbox"] == [3, 4, 11, 13]
    assert instances(dataset, 0, 3)[0]["bbox"] == [4, 5, 10, 12]
    assert instances(dataset, 1, 1)[0]["bbox"] == [4, 5, 10, 12]


def test_null_empty_list_and_empty_mask_are_absent_and_frames_stay(root):
    dataset = make(root)
    info = dataset.get_data_info(0)
    assert info["video_length"] == len(info["images"]) == 4
    assert [len(image["instances"]) for image in info["images"]] == [1, 0, 1, 2]
    assert [image["frame_id"] for image in info["images"]] == [0, 1, 2, 3]


def test_instance_ids_follow_the_json_and_crowds_are_flagged(root):
    dataset = make(root)
    assert [i["instance_id"] for i in instances(dataset, 0, 3)] == [0, 2]
    assert [(i["instance_id"], i["ignore_flag"]) for i in instances(dataset, 1, 1)] == [
        (0, 0),
        (1, 1),
    ]


def test_image_ids_are_unique(root):
    dataset = make(root)
    ids = [image["img_id"] for v in range(3) for image in dataset.get_data_info(v)["images"]]
    assert ids == list(range(9))


def test_class_names_come_from_the_json_and_touch_no_class_attribute(root):
    before = copy.deepcopy(YTVISDataset.METAINFO)
    dataset = make(root, test_mode=True)
    assert dataset.metainfo["classes"] == ("cat", "dog", "owl")
    assert dataset.metainfo["category_ids"] == (1, 2, 3)
    assert dataset.metainfo["ann_file"] == str(root / "train.json")
    assert before == YTVISDataset.METAINFO == BaseDataset.METAINFO


def test_custom_classes_select_and_reorder(root):
    dataset = make(root, metainfo=dict(classes=["owl", "dog"]))
    assert dataset.metainfo["classes"] == ("owl", "dog")
    assert dataset.metainfo["category_ids"] == (3, 2)
    assert [(i["bbox_label"], i["instance_id"]) for i in instances(dataset, 0, 3)] == [
        (1, 0),
        (0, 1),
    ]
    assert instances(dataset, 1, 2) == []


def test_unknown_class_lists_those_of_the_json(root):
    with pytest.raises(DatasetError, match=r"no class 'zebra'.*cat, dog, owl"):
        make(root, metainfo=dict(classes=("cat", "zebra")))


def test_videos_without_objects_stay_unless_filtered_in_training(root):
    assert [make(root).get_data_info(v)["video_id"] for v in range(3)] == [7, 9, 11]
    cfg = dict(filter_empty_gt=True)
    filtered = make(root, filter_cfg=cfg)
    assert [filtered.get_data_info(v)["video_id"] for v in range(len(filtered))] == [7, 9]
    assert filtered.get_len_per_video(0) == 4
    assert len(make(root, filter_cfg=cfg, test_mode=True)) == 3
    with pytest.raises(DatasetError, match="leaves no video"):
        make(root, filter_cfg=dict(min_size=100))
    with pytest.raises(ValueError, match="filter_empty"):
        make(root, filter_cfg=dict(filter_empty=True))


def test_key_frames_are_those_with_an_object_that_is_no_crowd(root):
    expected = [[0, 0], [0, 2], [0, 3], [1, 1], [1, 2]]
    assert make(root).key_frames().tolist() == expected


@pytest.mark.parametrize("missing", ["null", "absent", "empty"])
def test_json_without_annotations_is_for_testing_only(tmp_path, missing):
    content = small_content()
    content["annotations"] = dict(null=None, empty=[]).get(missing)
    if missing == "absent":
        del content["annotations"]
    write_content(tmp_path, content)
    dataset = make(tmp_path, test_mode=True)
    assert len(dataset) == 3 and instances(dataset, 0, 0) == []
    with pytest.raises(DatasetError, match=r"train\.json has no annotations"):
        make(tmp_path)


def test_ovis_and_2021_extras_are_accepted(tmp_path):
    content = small_content()
    content["videos"][0]["flickr_url"] = ""
    content["annotations"][0].update(
        occlusion=["no_occlusion", None, "slight_occlusion", None], length=1, width=32, height=24
    )
    write_content(tmp_path, content)
    assert len(make(tmp_path)) == 3


def test_data_info_is_a_fresh_copy(root):
    dataset = make(root)
    dataset.get_data_info(0)["images"].clear()
    assert len(dataset.get_data_info(0)["images"]) == 4


# --- missing files -----------------------------------------------------------------------------


def test_json_that_is_missing_or_no_json(root):
    (root / "train.json").write_text("{")
    with pytest.raises(DatasetError, match=r"train\.json: not valid JSON"):
        make(root)
    with pytest.raises(FileNotFoundError, match=r"nothing\.json.*split_ytvis\.py"):
        make(root, ann_file="nothing.json")


def test_check_frames_says_how_far_to_look(root):
    (root / "train/JPEGImages/v7/00002.jpg").unlink()
    make(root)
    with pytest.raises(DatasetError, match="video 7.*00002.jpg"):
        make(root, check_frames="all")
    (root / "train/JPEGImages/v9/00000.jpg").unlink()
    with pytest.raises(DatasetError, match="video 9.*00000.jpg"):
        make(root)
    make(root, check_frames="none")
    with pytest.raises(ValueError, match="check_frames"):
        make(root, check_frames="some")


# --- properties of the mask conversion --------------------------------------------------------

frame_masks = arrays(np.uint8, (6, 7), elements=st.integers(0, 1))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(frame_masks, st.sampled_from(("null", "compressed", "uncompressed"))),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_tracks_become_the_instances_of_their_frames(tmp_path_factory, tracks):
    encode = dict(null=lambda mask: None, compressed=compressed, uncompressed=uncompressed)
    content = dict(
        categories=[dict(id=5, name="thing")],
        videos=[video(1, 3, 6, 7)],
        annotations=[
            annotation(i, 1, 5, [encode[kind](mask) for mask, kind in track])
            for i, track in enumerate(tracks)
        ],
    )
    root = tmp_path_factory.mktemp("tracks")
    (root / "train.json").write_text(json.dumps(content))
    dataset = make(root, check_frames="none")
    for frame in range(3):
        expected = {
            i: track[frame][0]
            for i, track in enumerate(tracks)
            if track[frame][1] != "null" and track[frame][0].any()
        }
        got = {i["instance_id"]: i for i in instances(dataset, 0, frame)}
        assert list(got) == list(expected)
        for id_, mask in expected.items():
            ys, xs = np.nonzero(mask)
            assert np.array_equal(mask_util.decode(got[id_]["mask"]), mask)
            assert got[id_]["bbox"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


# --- items ------------------------------------------------------------------------------------


@TRANSFORMS.register_module(force=True)
class DrawNumbers:
    """Keep what each random generator gives; reject some samples."""

    def __init__(self, reject=0.0):
        self.reject = reject

    def __call__(self, results):
        if random.random() < self.reject:
            return None
        drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))
        return dict(drawn=drawn, video=results["video_id"], frame=results.get("key_frame_id"))


def test_item_is_a_function_of_its_index_and_leaves_the_generators_alone(root):
    dataset = make(root, pipeline=[dict(type="DrawNumbers")])
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = dataset[FrameIndex(0, 2, seed=11)]
    assert (first["video"], first["frame"]) == (7, 2)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    assert dataset[FrameIndex(0, 2, seed=11)] == first
    other = dataset[FrameIndex(0, 2, seed=12)]
    assert all(a != b for a, b in zip(first["drawn"], other["drawn"], strict=True))
    # Without a seed the ambient generators go on, as in any other dataset.
    assert dataset[0, 2]["drawn"] != dataset[0, 2]["drawn"]


def test_rejected_sample_is_replaced_by_a_key_frame_reproducibly(root):
    dataset = make(root, pipeline=[dict(type="DrawNumbers", reject=0.7)])
    key_frames = {(7, 0), (7, 2), (7, 3), (9, 1), (9, 2), (11, 0), (11, 1)}
    samples = [dataset[FrameIndex(0, 2, seed)] for seed in range(20)]
    assert samples == [dataset[FrameIndex(0, 2, seed)] for seed in range(20)]
    seen = {(sample["video"], sample["frame"]) for sample in samples}
    assert len(seen) > 2 and seen <= key_frames


def test_memory_of_a_large_dataset_is_modest(tmp_path):
    """36 frames a video cost a few hundred bytes each, plus their masks."""
    mask = compressed(box_mask(4, 5, 6, 7))
    content = dict(
        categories=[dict(id=1, name="thing")],
        videos=[video(i, 36) for i in range(200)],
        annotations=[annotation(i, i, 1, [mask] * 36) for i in range(200)],
    )
    (tmp_path / "train.json").write_text(json.dumps(content))
    tracemalloc.start()
    dataset = make(tmp_path, check_frames="none")
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(dataset) == 200
    assert held < 200 * 36 * 600
