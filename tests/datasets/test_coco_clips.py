"""COCO's images as pseudo-clips: the dataset, the transform that makes the clips, both together."""

import json
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.dataset import ConcatDataset, pseudo_collate
from torch.utils.data import DataLoader
from ytvis_content import (
    HEIGHT,
    WIDTH,
    annotation,
    box_mask,
    compressed,
    polygons,
    uncompressed,
    video,
    write_content,
)

from mmvis_plugin.datasets import (
    COCOClips,
    DatasetError,
    FrameIndex,
    KeyFrameSampler,
    LoadImageClip,
    YTVISDataset,
)
from mmvis_plugin.datasets.coco_clips import COCO_TO_BENCHMARK
from mmvis_plugin.datasets.transforms.image_clip import (
    blur_kernel,
    mask_boxes,
    pack_masks,
    unpack_masks,
    warp_masks,
)
from mmvis_plugin.ytvis.categories import CATEGORIES

ROOT = Path(__file__).resolve().parents[2]
COCO_NAMES = {1: "person", 2: "bicycle", 3: "car", 43: "tennis racket", 62: "chair", 74: "mouse"}
YTVIS19 = CATEGORIES["ytvis19"]
STILL = dict(rotation=0, translation=0, perspective=0, brightness=0, hue_saturation=0, blur_prob=0)

# SeqFormer's tables of ids, without COCO's mouse.
SEQFORMER = dict(
    ytvis19="1:1 2:21 3:6 4:21 5:28 7:17 8:29 9:34 17:14 18:8 19:18 21:15 22:32 23:20 24:30 25:22 "
    "36:33 41:5 42:27 43:40",
    ytvis21="1:26 2:23 3:5 4:23 5:1 7:36 8:37 9:4 16:3 17:6 18:9 19:19 21:7 22:12 23:2 24:40 25:18 "
    "36:31 41:29 42:33 43:34",
)
# Ids in COCO's files have gaps.
COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def coco_image(id, height=HEIGHT, width=WIDTH):
    return dict(id=id, file_name=f"{id:04d}.png", height=height, width=width)


def coco_object(id, image_id, category_id, segmentation, **more):
    return dict(
        id=id, image_id=image_id, category_id=category_id, segmentation=segmentation, **more
    )


def content():
    """Four images with every kind of mask; the last has no object of the benchmarks."""
    return dict(
        categories=[dict(id=id_, name=name) for id_, name in COCO_NAMES.items()],
        images=[coco_image(id_) for id_ in (30, 10, 20, 40)],
        annotations=[
            coco_object(5, 10, 1, polygons(4, 5, 6, 7)),
            coco_object(6, 30, 62, polygons(1, 1, 4, 4)),
            coco_object(7, 30, 43, compressed(box_mask(4, 5, 6, 7))),
            coco_object(8, 30, 1, uncompressed(box_mask(0, 0, 20, 9)), iscrowd=1),
            coco_object(9, 30, 3, compressed(box_mask(0, 0, 0, 0))),
            coco_object(10, 30, 2, polygons(10, 2, 12, 8) + polygons(4, 15, 5, 5)),
            coco_object(11, 20, 1, polygons(2, 3, 20, 15)),
            coco_object(12, 40, 74, polygons(2, 3, 20, 15)),
        ],
    )


def write(root, content):
    """The JSON, and for each image a file of noise."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "coco.json").write_text(json.dumps(content))
    rng = np.random.default_rng(0)
    for image in content["images"]:
        size = (int(image["height"]), int(image["width"]), 3)
        (root / "images").mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, size, np.uint8)
        cv2.imwrite(str(root / "images" / str(image["file_name"])), pixels)
    return root


def dataset(root, **kwargs):
    prefix = dict(img_path="images/")
    return COCOClips(data_root=str(root), ann_file="coco.json", data_prefix=prefix, **kwargs)


@pytest.fixture
def coco(tmp_path):
    return write(tmp_path / "coco", content())


def pipeline(sample, **load):
    return [
        sample,
        dict(type="LoadImageClip", **load),
        dict(
            type="TransformBroadcaster",
            share_random_params=True,
            transforms=[
                dict(type="Resize", scale=(48, 36), keep_ratio=True),
                dict(type="RandomFlip", prob=0.5),
            ],
        ),
        dict(type="PackTrackInputs"),
    ]


CLIP = dict(type="CenteredClipSample", num_frames=3)


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark", ["ytvis19", "ytvis21"])
def test_classes_are_mapped_as_in_seqformer(benchmark):
    coco_ids = [id_ for id_ in range(1, 91) if id_ not in COCO_GAPS]
    id_of = dict(zip(CocoDataset.METAINFO["classes"], coco_ids, strict=True))
    names = CATEGORIES[benchmark]
    ours = {id_of[a]: names.index(b) + 1 for a, b in COCO_TO_BENCHMARK[benchmark].items()}
    expected = dict(map(int, pair.split(":")) for pair in SEQFORMER[benchmark].split())
    if benchmark == "ytvis21":
        expected[id_of["frisbee"]] = names.index("flying_disc") + 1
    assert ours == expected


def test_an_image_is_a_video_of_its_objects_that_the_benchmark_has(coco):
    data = dataset(coco, num_frames=4)
    assert data.metainfo["classes"] == YTVIS19
    assert data.metainfo["category_ids"] == tuple(range(1, 41))
    videos = [data.get_data_info(i) for i in range(len(data))]
    assert [v["video_id"] for v in videos] == [30, 10, 20]  # as in the JSON
    assert [v["video_length"] for v in videos] == [4, 4, 4]
    frames = videos[0]["images"]
    assert [f["frame_id"] for f in frames] == [0, 1, 2, 3]
    ids = [f["img_id"] for v in videos for f in v["images"]]
    assert len(set(ids)) == len(ids)
    assert all(f["img_path"].endswith("images/0030.png") for f in frames)
    racket, crowd, bicycle = frames[0]["instances"]
    assert frames[3]["instances"] == frames[0]["instances"]
    labels = [YTVIS19.index(name) for name in ("tennis_racket", "person", "motorbike")]
    assert [x["bbox_label"] for x in (racket, crowd, bicycle)] == labels
    assert [x["instance_id"] for x in (racket, crowd, bicycle)] == [0, 1, 2]
    assert [x["ignore_flag"] for x in (racket, crowd, bicycle)] == [0, 1, 0]
    assert racket["bbox"] == [4, 5, 10, 12]
    assert bicycle["bbox"] == [4, 2, 22, 20]  # around both of its parts
    assert np.array_equal(data.key_frames(), [[0, 2], [1, 2], [2, 2]])


def test_images_with_nothing_to_learn_or_with_too_many_objects_are_left_out(coco):
    # Image 30 has two objects and a crowd.
    assert len(dataset(coco, max_objects=2)) == 3
    assert len(dataset(coco, max_objects=1)) == 2
    assert len(dataset(coco, filter_cfg=dict(min_size=HEIGHT))) == 3
    with pytest.raises(DatasetError, match="leaves no video"):
        dataset(coco, filter_cfg=dict(min_size=HEIGHT + 1))


def test_classes_can_be_chosen(coco):
    data = dataset(coco, metainfo=dict(classes=("sedan", "person")))
    assert data.metainfo["category_ids"] == (6, 1)
    assert [data.get_data_info(i)["video_id"] for i in range(len(data))] == [10, 20]
    assert data.get_data_info(0)["images"][0]["instances"][0]["bbox_label"] == 1


def test_another_benchmark_with_a_map_of_its_own(coco):
    data = dataset(coco, benchmark="ovis", category_map={"bicycle": "Bicycle"})
    assert data.metainfo["classes"] == CATEGORIES["ovis"]
    (instance,) = data.get_data_info(0)["images"][0]["instances"]
    assert instance["bbox_label"] == CATEGORIES["ovis"].index("Bicycle")


def change(key, index=0, **values):
    def apply(data):
        data[key][index].update(values)

    return apply


def drop(key, name):
    def apply(data):
        del data[key][0][name]

    return apply


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda data: data.pop("images"),
            "coco.json: 'images' must be a list .* is missing",
        ),
        (lambda data: data.update(images=[]), "'images' must be a list that is not empty"),
        (lambda data: data.update(annotations={}), "'annotations' must be a list"),
        (lambda data: data.update(annotations=None), "has no image with 1 to 25 objects"),
        (change("images", id=10), "image 10: this id is used by two images"),
        (change("images", width=0.5), "image 30: 'width' must be a whole number .* 0.5"),
        (change("images", file_name=3), "image 30: 'file_name' must be a text, got 3"),
        (drop("images", "height"), "images\\[0\\] has no 'height'"),
        (drop("annotations", "segmentation"), "annotations\\[0\\] has no 'segmentation'"),
        (
            change("annotations", image_id=4),
            "image 4: annotation 5: there is no image with",
        ),
        (change("annotations", id=6), "image 30: annotation 6: this id is used by two"),
        (
            change("annotations", category_id=9),
            "annotation 5: there is no category with",
        ),
        (
            change("annotations", segmentation=compressed(box_mask(0, 0, 1, 1, 3, 4))),
            r"image 10: annotation 5: the segmentation: RLE of size \[3, 4\]",
        ),
        (
            change("annotations", 2, segmentation=dict(size=[HEIGHT, WIDTH], counts="04")),
            "image 30: annotation 7: the segmentation: .* not a mask of 24 x 32",
        ),
        (change("annotations", segmentation=[[1, 2, 3, 4]]), "annotation 5: .* 3 or more points"),
        (change("annotations", segmentation=[[1, 2, 3, 4, 5, None]]), "annotation 5: .* finite"),
        (change("categories", id=2), "the id 2 is used by two categories"),
        (drop("categories", "name"), "categories\\[0\\] has no 'name'"),
        (
            lambda data: [c.update(name=c["name"].upper()) for c in data["categories"]],
            r"none of its categories \(PERSON, .*\) is one of person, airplane",
        ),
    ],
)
def test_broken_files_are_named(tmp_path, break_it, message):
    broken = content()
    break_it(broken)
    write(tmp_path, content())
    (tmp_path / "coco.json").write_text(json.dumps(broken))
    with pytest.raises(DatasetError, match=message):
        dataset(tmp_path)


def test_wrong_arguments(coco):
    for arguments, message in [
        (dict(test_mode=True), "test_mode"),
        (dict(num_frames=0), "num_frames"),
        (dict(max_objects=0), "max_objects"),
        (dict(category_map={}), "none of its categories"),
        (dict(benchmark="ovis"), "ytvis19, ytvis21, got 'ovis'; another one needs a category_map"),
        (dict(category_map={"person": "human"}), "ytvis19 has no class human"),
        (dict(check_frames="some"), "check_frames"),
        (dict(metainfo=dict(classes=("person", "Yeti"))), "no class 'Yeti'"),
    ]:
        with pytest.raises(ValueError, match=message):
            dataset(coco, **arguments)
    with pytest.raises(FileNotFoundError, match="no.json does not exist"):
        COCOClips(data_root=str(coco), ann_file="no.json")


def test_missing_images(coco):
    (coco / "images/0010.png").unlink()
    data = dataset(coco, pipeline=pipeline(CLIP))
    with pytest.raises(DatasetError, match=r"^image 10: file .*0010.png does not exist"):
        data[FrameIndex(1, 18, 0)]
    with pytest.raises(DatasetError, match=r"json: image 10: file .*0010.png does not exist"):
        dataset(coco, check_frames="all")
    (coco / "images/0030.png").unlink()
    with pytest.raises(DatasetError, match=r"json: image 30: file .*0030.png does not exist"):
        dataset(coco)
    assert len(dataset(coco, check_frames="none")) == 3


# --- clips -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


masks_strategy = st.builds(
    lambda count, height, width, seed: np.random.default_rng(seed).integers(
        0, 2, (count, height, width), np.uint8
    ),
    st.integers(1, 70),  # beyond the 32 that OpenCV warps at once
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 99),
)


@given(masks_strategy)
@settings(deadline=None, max_examples=30)
def test_packed_masks_unpack_to_themselves(masks):
    bits = pack_masks([compressed(mask) for mask in masks], *masks.shape[1:])
    assert bits.shape == (*masks.shape[1:], -(-len(masks) // 8))
    assert np.array_equal(unpack_masks(bits, len(masks)), masks)


def test_no_masks_pack_to_no_bits():
    assert unpack_masks(pack_masks([], 3, 4), 0).shape == (0, 3, 4)


@given(masks_strategy, st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_masks_move_pixel_by_pixel(masks, seed):
    count, height, width = masks.shape
    random.seed(seed)
    load = LoadImageClip(rotation=180, scale=(0.5, 2), shear=40, translation=0.3, perspective=0.1)
    homography = load.random_homography(height, width)
    bits = pack_masks([compressed(mask) for mask in masks], height, width)
    moved = unpack_masks(warp_masks(bits, homography), count)
    back = np.linalg.inv(homography)
    for y in range(height):
        for x in range(width):
            u, v, w = back @ [x, y, 1]
            u, v = u / w, v / w
            if min(abs(u % 1 - 0.5), abs(v % 1 - 0.5)) < 0.04:
                continue  # OpenCV rounds coordinates to 1/32 of a pixel
            u, v = round(u), round(v)
            inside = 0 <= u < width and 0 <= v < height
            expected = masks[:, v, u] if inside else np.zeros(count)
            assert np.array_equal(moved[:, y, x], expected), (x, y, u, v)


@given(masks_strategy)
@settings(deadline=None, max_examples=30)
def test_boxes_are_those_of_the_masks(masks):
    masks = masks[masks.any(axis=(1, 2))]
    boxes = mask_boxes(masks)
    for box, mask in zip(boxes, masks, strict=True):
        y, x = mask.nonzero()
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert boxes.dtype == np.float32 and boxes.shape == (len(masks), 4)


def moved_image(image, **changes):
    load = LoadImageClip(**dict(STILL, **changes))
    height, width = image.shape[:2]
    homography = load.random_homography(height, width)
    return cv2.warpPerspective(image, homography, (width, height), flags=cv2.INTER_LINEAR)


def test_each_range_does_what_it_says(rng, monkeypatch):
    """At the upper end of each range; the slow forms are NumPy's."""
    image = rng.integers(0, 256, (20, 20, 3), np.uint8)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    assert np.array_equal(moved_image(image), image)
    assert np.array_equal(moved_image(image, rotation=90), np.rot90(image, -1))  # clockwise
    shifted = np.zeros_like(image)
    shifted[5:, 5:] = image[:-5, :-5]
    assert np.array_equal(moved_image(image, translation=0.25), shifted)
    # About the centre, which is pixel 10.
    homography = LoadImageClip(**dict(STILL, scale=(3, 3))).random_homography(21, 21)
    assert np.allclose(homography, [[3, 0, -20], [0, 3, -20], [0, 0, 1]], atol=1e-5)
    # 45 degrees: what is a row lower goes a pixel to the side.
    homography = LoadImageClip(**dict(STILL, shear=45)).random_homography(21, 21)
    assert np.allclose(homography, [[1, 1, -10], [0, 1, 0], [0, 0, 1]], atol=1e-5)
    # All corners moved inwards by a quarter: the middle half fills the image.
    monkeypatch.setattr(random, "gauss", lambda mean, deviation: -0.25)
    homography = LoadImageClip(**STILL).random_homography(20, 40)
    for corner, goes_to in [((9.5, 4.5), (-0.5, -0.5)), ((29.5, 14.5), (39.5, 19.5))]:
        x, y, w = homography @ [*corner, 1]
        assert np.allclose([x / w, y / w], goes_to, atol=1e-4)


def test_colors_stay_in_their_ranges(rng):
    image = rng.integers(0, 256, (32, 32, 3), np.uint8)
    load = LoadImageClip(**dict(STILL, brightness=40))
    for seed in range(20):
        random.seed(seed)
        change = load.change_colors(image).astype(int) - image
        inside = change[(image >= 40) & (image < 216)]
        # Through HSV and back, values move by a few.
        assert np.ptp(inside) <= 12 and abs(np.median(inside)) <= 40
    load = LoadImageClip(**dict(STILL, hue_saturation=20))
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(int)
    for seed in range(20):
        random.seed(seed)
        change = cv2.cvtColor(load.change_colors(image), cv2.COLOR_BGR2HSV).astype(int) - hsv
        hue = (change[..., 0] + 90) % 180 - 90
        assert abs(np.median(hue)) <= 15 and abs(np.median(change[..., 1])) <= 20
        assert abs(change[..., 2]).max() <= 2


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_blur_is_a_line(angle):
    kernel = blur_kernel(9, angle)
    assert kernel.sum() == pytest.approx(1)
    y, x = kernel.nonzero()
    along = np.deg2rad(angle)
    # cv2's angles turn counter-clockwise, its y axis points down.
    distance = abs((x - 4) * np.sin(along) + (y - 4) * np.cos(along))
    assert distance.max() < 1.5 and np.hypot(x - 4, y - 4).max() >= 3


def clip_of(root, frames, **load):
    """What LoadImageClip gives for some frames of image 30."""
    info = dataset(root).get_data_info(0)
    sample = TRANSFORMS.build(dict(type="CenteredClipSample"))
    return LoadImageClip(**load)(dict(sample.prepare_data(info, frames)))


def test_one_frame_is_the_image_and_frames_that_come_twice_are_alike(coco):
    image = cv2.imread(str(coco / "images/0030.png"))
    for seed in range(5):
        random.seed(seed)
        clip = clip_of(coco, [3, 4, 5, 5])
        same = [np.array_equal(frame, image) for frame in clip["img"][:3]]
        assert sum(same) == 1
        original = same.index(True)
        masks = [box_mask(4, 5, 6, 7), box_mask(0, 0, 20, 9)]
        assert np.array_equal(clip["gt_masks"][original].masks[:2], masks)
        assert clip["gt_instances_ids"][original].tolist() == [0, 1, 2]
        assert clip["gt_ignore_flags"][original].tolist() == [False, True, False]
        assert np.array_equal(clip["img"][2], clip["img"][3])
        assert np.array_equal(clip["gt_bboxes"][2], clip["gt_bboxes"][3])
        assert not np.shares_memory(clip["gt_bboxes"][2], clip["gt_bboxes"][3])
        assert "instances" not in clip
        assert {len(value) for value in clip.values()} == {4}


def test_objects_move_with_the_image(tmp_path):
    """A bright object on black: within a pixel of its mask's edge in every copy."""
    mask = box_mask(60, 40, 50, 30, 128, 160)
    objects = [coco_object(1, 1, 1, compressed(mask))]
    categories = [dict(id=1, name="person")]
    data = dict(categories=categories, images=[coco_image(1, 128, 160)], annotations=objects)
    write(tmp_path, data)
    cv2.imwrite(str(tmp_path / "images/0001.png"), np.repeat(mask[..., None] * 200, 3, axis=2))
    random.seed(0)
    quiet = dict(brightness=0, hue_saturation=0, blur_prob=0)
    clip = clip_of(tmp_path, list(range(12)), scale=(0.7, 1.4), shear=20, **quiet)
    changed = 0
    for image, masks, boxes in zip(clip["img"], clip["gt_masks"], clip["gt_bboxes"], strict=True):
        (moved,), bright = masks.masks, (image[..., 0] > 100).astype(np.uint8)
        around = np.ones((3, 3), np.uint8)
        assert (bright <= cv2.dilate(moved, around)).all()
        assert (bright >= cv2.erode(moved, around)).all()
        assert np.array_equal(boxes, BitmapMasks(masks.masks, 128, 160).get_bboxes("hbox").numpy())
        changed += not np.array_equal(moved, mask)
    assert changed == 11


def test_an_object_that_leaves_is_absent(coco, monkeypatch):
    # By 14 pixels to the left: of the racket (columns 4 to 9) nothing remains.
    shift = np.array([[1.0, 0, -14], [0, 1, 0], [0, 0, 1]])
    monkeypatch.setattr(LoadImageClip, "random_homography", lambda self, h, w: shift)
    clip = clip_of(coco, [1, 2])
    counts = [len(boxes) for boxes in clip["gt_bboxes"]]
    assert sorted(counts) == [2, 3]
    moved = counts.index(2)
    assert clip["gt_instances_ids"][moved].tolist() == [1, 2]
    labels = [YTVIS19.index(name) for name in ("person", "motorbike")]
    assert clip["gt_bboxes_labels"][moved].tolist() == labels
    assert clip["gt_bboxes"][moved].tolist() == [[0, 0, 6, 9], [0, 2, 8, 10]]


def test_videos_are_refused(coco):
    frames = dict(img_path=["a.jpg", "b.jpg"], video_id=[3, 3])
    with pytest.raises(ValueError, match="video 3: LoadImageClip is for videos of one image"):
        LoadImageClip()(frames)


def test_wrong_ranges():
    for arguments in (dict(scale=(0, 1)), dict(scale=(2, 1)), dict(shear=90), dict(blur_sizes=[4])):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            LoadImageClip(**arguments)


# --- samples -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "num_frames"),
    [
        (dict(type="CenteredClipSample", num_frames=5), 5),
        (dict(type="ClipSample", clip_length=9, num_clips=2), 18),
        (dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100), 2),
    ],
)
def test_samples_of_every_method(coco, sample, num_frames):
    data = dataset(coco, pipeline=pipeline(sample))
    for index in KeyFrameSampler(data, seed=0):
        packed = data[index]
        assert packed["inputs"].shape == (num_frames, 3, 36, 48)
        assert packed["inputs"].dtype == torch.uint8
        frames = packed["data_samples"].video_data_samples
        assert len({frame.frame_id for frame in frames}) == num_frames
        for frame in frames:
            instances = frame.gt_instances
            assert instances.masks.masks.shape == (len(instances), 36, 48)
            assert len(instances.bboxes) == len(instances.labels) == len(instances.instances_ids)
            if int(index) == 0:
                assert 1 not in instances.instances_ids  # the crowd
        assert any(len(frame.gt_instances) for frame in frames)


def test_together_with_videos(coco, tmp_path):
    ids = range(1, 41)
    videos = dict(
        categories=[dict(id=i, name=name) for i, name in zip(ids, YTVIS19, strict=True)],
        videos=[video(7, 4)],
        annotations=[annotation(1, 7, 3, [polygons(4, 5, 6, 7), None, polygons(1, 1, 9, 9), None])],
    )
    write_content(tmp_path, videos)
    load = dict(type="TransformBroadcaster", transforms=[dict(type="LoadFrame")])
    youtube = YTVISDataset(
        data_root=str(tmp_path),
        ann_file="train.json",
        data_prefix=dict(img_path="train/JPEGImages"),
        pipeline=[CLIP, load],
    )
    both = ConcatDataset([youtube, dataset(coco, pipeline=[CLIP, dict(type="LoadImageClip")])])
    sampler = KeyFrameSampler(both, seed=0)
    indices = list(sampler)
    assert sorted((int(i), i.frame) for i in indices) == [(0, 0), (0, 2), (1, 18), (2, 18), (3, 18)]
    found = {(int(i), both[i]["video_id"][0]) for i in indices}
    assert found == {(0, 7), (1, 30), (2, 10), (3, 20)}


def test_samples_are_a_function_of_seed_epoch_and_index(coco):
    """Whatever the number of workers and the state of the generators."""
    data = dataset(coco, pipeline=pipeline(CLIP))

    def epoch(number, workers):
        sampler = KeyFrameSampler(data, seed=3)
        sampler.set_epoch(number)
        loader = DataLoader(
            data, 2, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate
        )
        random.random(), np.random.rand()
        return [frames for batch in loader for frames in batch["inputs"]]

    first, again, second = epoch(0, 2), epoch(0, 0), epoch(1, 0)
    assert len(first) == 3
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a in first for b in second)


@pytest.mark.parametrize("name", ["ytvis19", "ytvis21"])
def test_base_config_of_joint_training(name, coco, tmp_path):
    cfg = Config.fromfile(ROOT / f"configs/_base_/datasets/{name}_coco_joint.py")
    alone = Config.fromfile(ROOT / f"configs/_base_/datasets/{name}.py")
    youtube, images = cfg.train_dataloader.dataset.datasets
    assert youtube == alone.train_dataloader.dataset
    for loader in ("val_dataloader", "test_dataloader"):
        assert cfg[loader] == alone[loader]
    assert cfg.train_dataloader.sampler == alone.train_dataloader.sampler
    images.update(data_root=str(coco), ann_file="coco.json", data_prefix=dict(img_path="images/"))
    data = DATASETS.build(images)
    assert data.metainfo["classes"] == CATEGORIES[name]
    assert data[FrameIndex(0, 18, 0)]["inputs"].shape == (2, 3, 360, 480)
