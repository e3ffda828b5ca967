import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import DATASETS, METRICS
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from pycocotools import mask as mask_util
from ytvis_content import (
    HEIGHT,
    WIDTH,
    annotation,
    box_mask,
    compressed,
    small_content,
    video,
    write_content,
)

from mmvis_plugin.datasets import CenteredClipSample, DatasetError, LoadFrame, SampleKeyFrame
from mmvis_plugin.datasets.transforms import AnnotatedPairSample, ResizeShortSide


@pytest.fixture()
def root(tmp_path):
    return write_content(tmp_path, small_content())


def build(root, pipeline, **kwargs):
    return DATASETS.build(
        dict(
            type="YTVISDataset",
            data_root=str(root),
            ann_file="train.json",
            data_prefix=dict(img_path="train/JPEGImages/"),
            pipeline=pipeline,
            **kwargs,
        )
    )


# --- AnnotatedPairSample ----------------------------------------------------------------------


@given(
    objects=st.lists(st.sampled_from(["none", "crowd", "object"]), min_size=1, max_size=9),
    key=st.integers(0, 8),
    frame_range=st.integers(1, 10),
)
def test_both_frames_of_a_pair_have_an_object(objects, key, frame_range):
    key = min(key, len(objects) - 1)
    instances = {"none": [], "crowd": [dict(ignore_flag=1)], "object": [dict(ignore_flag=0)]}
    images = [dict(frame_id=i, instances=instances[kind]) for i, kind in enumerate(objects)]
    sample = AnnotatedPairSample(frame_range)
    video = dict(images=images, video_length=len(images), video_id=1, key_frame_id=key)
    drawn = {tuple(sample.transform(video)["frame_id"]) for _ in range(60)}
    near = [
        i for i, kind in enumerate(objects) if kind == "object" and 0 < abs(i - key) <= frame_range
    ]
    possible = {tuple(sorted((key, i))) for i in near} or {(key, key)}
    assert drawn <= possible and (len(possible) > 1) == (len(drawn) > 1)


# --- CenteredClipSample -----------------------------------------------------------------------


@given(
    length=st.integers(1, 12),
    side=st.integers(0, 4),
    frame_range=st.integers(1, 15),
    data=st.data(),
)
def test_clip_is_sorted_in_range_and_centred_where_it_can_be(length, side, frame_range, data):
    key = data.draw(st.integers(0, length - 1))
    clip = CenteredClipSample(2 * side + 1, frame_range).sample_frames(length, key)
    assert len(clip) == 2 * side + 1 and clip == sorted(clip) and key in clip
    assert all(0 <= f < length and abs(f - key) <= frame_range for f in clip)
    before, after = min(key, frame_range), min(length - 1 - key, frame_range)
    if before + after >= 2 * side:
        assert len(set(clip)) == len(clip)
    else:
        assert len(set(clip)) == before + after + 1
    if min(before, after) >= side:
        assert clip[side] == key


def test_clip_keys_and_flags(root):
    dataset = build(root, [dict(type="CenteredClipSample", num_frames=3, frame_range=1)])
    clip = dataset[0, 2]
    assert clip["frame_id"] == [1, 2, 3]
    assert clip["key_frame_flags"] == [False, True, False]
    assert clip["video_id"] == [7] * 3
    assert clip["video_length"] == [3] * 3 and clip["ori_video_length"] == [4] * 3
    assert sum(dataset[0]["key_frame_flags"]) == 1


def test_clip_of_a_single_frame_video_repeats_it():
    images = [dict(frame_id=0, img_id=4)]
    results = CenteredClipSample(3).transform(
        dict(images=images, video_id=1, video_length=1, key_frame_id=0)
    )
    assert results["frame_id"] == [0, 0, 0] and sum(results["key_frame_flags"]) == 1


@pytest.mark.parametrize("kwargs", [dict(num_frames=2), dict(num_frames=0), dict(frame_range=0)])
def test_clip_arguments_are_checked(kwargs):
    with pytest.raises(ValueError, match="must be"):
        CenteredClipSample(**kwargs)


# --- LoadFrame --------------------------------------------------------------------------------


def load(root, name, **kwargs):
    path = str(root / "train/JPEGImages" / name)
    facts = dict(img_path=path, video_id=7, height=HEIGHT, width=WIDTH)
    return LoadFrame().transform(facts | kwargs)


def test_frame_is_loaded(root):
    loaded = load(root, "v7/00003.jpg")
    assert loaded["img"].shape == (HEIGHT, WIDTH, 3) and loaded["ori_shape"] == (HEIGHT, WIDTH)
    assert abs(int(loaded["img"].mean()) - 15) <= 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"no image"), "cannot be read"),
        (lambda path: cv2.imwrite(str(path), np.zeros((9, 9, 3), np.uint8)), r"\(9, 9\)"),
    ],
)
def test_bad_frame_names_video_and_file(root, damage, message):
    damage(root / "train/JPEGImages/v7/00001.jpg")
    with pytest.raises(DatasetError, match=f"video 7: .*v7/00001.jpg.*{message}"):
        load(root, "v7/00001.jpg")


# --- whole pipelines --------------------------------------------------------------------------

CLIP = [
    dict(type="CenteredClipSample", num_frames=3, frame_range=2),
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="LoadFrame"),
            dict(type="LoadTrackAnnotations", with_mask=True),
            dict(type="RandomChoiceResize", scales=[(32, 24), (64, 48), (96, 72)], keep_ratio=True),
            dict(type="RandomFlip", prob=[0.3, 0.3], direction=["horizontal", "vertical"]),
        ],
    ),
    dict(type="PackTrackInputs", meta_keys=("img_norm_cfg",)),
]


def test_frames_of_a_clip_share_their_random_parameters(root):
    torch.manual_seed(0), np.random.seed(0)
    dataset = build(root, CLIP)
    seen = set()
    for _ in range(40):
        clip = dataset[0, 2]["data_samples"].video_data_samples
        parameters = {(f.img_shape, f.flip, f.flip_direction) for f in clip}
        assert len(parameters) == 1
        seen |= parameters
    assert len(seen) == 9


CROP = dict(type="RandomCrop", crop_size=(14, 18), allow_negative_crop=True)


def test_crops_that_empty_a_frame_keep_ids_aligned(root):
    np.random.seed(0)
    clip = [CLIP[0], {**CLIP[1], "transforms": [*CLIP[1]["transforms"][:2], CROP]}, CLIP[2]]
    dataset = build(root, clip)
    counts = set()
    for _ in range(20):
        for frame in dataset[0, 3]["data_samples"].video_data_samples:
            gt = frame.gt_instances
            assert len(gt.bboxes) == len(gt.labels) == len(gt.masks) == len(gt.instances_ids)
            assert dict(
                zip(gt.instances_ids.tolist(), gt.labels.tolist(), strict=True)
            ).items() <= {
                (0, 1),
                (2, 2),
            }
            counts.add((frame.frame_id, len(gt)))
    assert {(3, 0), (3, 1)} <= counts


def test_empty_frames_pass_and_everything_stays_aligned(root):
    dataset = build(root, CLIP)
    for _ in range(10):
        item = dataset[0, 0]
        assert item["inputs"].shape[:2] == (3, 3)
        for frame in item["data_samples"].video_data_samples:
            gt = frame.gt_instances
            shape = tuple(item["inputs"].shape[-2:])
            assert len(gt.bboxes) == len(gt.labels) == len(gt.masks) == len(gt.instances_ids)
            assert gt.masks.masks.shape == (len(gt), *shape)
            assert len(gt) == {0: 1, 1: 0, 2: 1, 3: 2}[frame.frame_id]
            for box, mask in zip(gt.bboxes, gt.masks.masks, strict=True):
                ys, xs = np.nonzero(mask)
                x1, y1, x2, y2 = box.tolist()
                # A given box may be larger than the mask (frame 2 has such a one).
                assert x1 <= xs.min() + 1 and y1 <= ys.min() + 1
                assert x2 >= xs.max() - 1 and y2 >= ys.max() - 1


def test_crowds_are_set_apart(root):
    frames = build(root, CLIP)[1, 1]["data_samples"].video_data_samples
    assert [len(f.gt_instances) for f in frames] == [0, 1, 1]
    assert [len(f.ignored_instances) for f in frames] == [1, 1, 0]


def test_key_frame_becomes_an_image_sample(root):
    pipeline = [
        dict(type="SampleKeyFrame"),
        dict(type="LoadFrame"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
        dict(type="Resize", scale=(64, 48), keep_ratio=True),
        dict(type="PackDetInputs"),
    ]
    item = build(root, pipeline)[0, 3]
    assert item["inputs"].shape == (3, 48, 64)
    gt = item["data_samples"].gt_instances
    assert gt.labels.tolist() == [1, 2] and gt.masks.masks.shape == (2, 48, 64)
    assert item["data_samples"].img_id == 3


def test_image_test_needs_one_frame_at_a_time(root):
    dataset = build(root, [dict(type="SampleKeyFrame")], test_mode=True)
    assert dataset[1, 2]["frame_id"] == 2 and dataset[1, 2]["ori_video_length"] == 3
    with pytest.raises(ValueError, match="3 frames.*TrackImgSampler"):
        dataset[1]
    assert "img_path" in SampleKeyFrame()(build(root, [])[0])


def test_coco_metric_scores_images_without_an_annotation_file(tmp_path):
    boxes = [(3, 4, 8, 7), (15, 2, 6, 12)]
    content = dict(
        categories=[dict(id=4, name="a"), dict(id=6, name="b")],
        videos=[video(0, 3), video(1, 2)],
        annotations=[
            annotation(i, i, (4, 6)[i], [compressed(box_mask(*box))] * (3 - i))
            for i, box in enumerate(boxes)
        ],
    )
    write_content(tmp_path, content)
    keys = ("img_id", "ori_shape", "instances", "scale_factor")
    pipeline = [
        dict(type="SampleKeyFrame"),
        dict(type="LoadFrame"),
        dict(type="Resize", scale=(64, 48), keep_ratio=True),
        dict(type="PackDetInputs", meta_keys=keys),
    ]
    batches = Runner.build_dataloader(
        dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type="TrackImgSampler"),
            dataset=build(tmp_path, pipeline, test_mode=True),
        )
    )
    metric = METRICS.build(dict(type="CocoMetric", metric=["bbox", "segm"]))
    metric.dataset_meta = batches.dataset.metainfo
    count = 0
    for batch in batches:
        for sample in batch["data_samples"]:
            gt = sample.instances
            # The truth, but one of the two classes confused.
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([i["bbox"] for i in gt]),
                labels=torch.zeros(len(gt), dtype=torch.long),
                scores=torch.ones(len(gt)),
                masks=torch.from_numpy(np.stack([mask_util.decode(i["mask"]) for i in gt])).bool(),
            )
            count += 1
        metric.process(batch, [sample.to_dict() for sample in batch["data_samples"]])
    scores = metric.evaluate(count)
    assert count == 5
    # Class a: 3 right and 2 wrong of equal score, in the order of the images; b: nothing found.
    assert scores["coco/segm_mAP_50"] == scores["coco/bbox_mAP_50"] == 0.5


# --- ResizeShortSide --------------------------------------------------------------------------


# By torchvision's rule: the long side is int(side * long / short).
@pytest.mark.parametrize(
    ("side", "height", "width", "expected"),
    [
        (360, 480, 854, (360, 640)),
        (360, 720, 1280, (360, 640)),
        (360, 1280, 720, (640, 360)),
        (360, 101, 101, (360, 360)),
        (32, 30, 31, (32, 33)),
        (7, 9, 90, (7, 70)),
    ],
)
def test_long_side_loses_its_fraction_of_a_pixel(side, height, width, expected):
    image = np.zeros((height, width, 3), np.uint8)
    resized = ResizeShortSide(side, backend="pillow")(dict(img=image, img_shape=(height, width)))
    assert resized["img"].shape == (*expected, 3) and resized["img_shape"] == expected
    assert resized["scale_factor"] == (expected[1] / width, expected[0] / height)


# SeqFormer's rule: the limit gives a short side, rounded, and that the long side, cut off.
@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 854, (432, 768)),
        (720, 1280, (432, 768)),
        (720, 1281, (432, 768)),
        (700, 1280, (420, 768)),
        (701, 1280, (421, 768)),
        (1280, 720, (768, 432)),
        (700, 1299, (414, 768)),
        (480, 640, (512, 682)),
    ],
)
def test_limit_of_the_long_side(height, width, expected):
    image = np.zeros((height, width, 3), np.float32)
    resize = ResizeShortSide(512, max_long_side=768, backend="pillow")
    assert resize(dict(img=image, img_shape=(height, width)))["img_shape"] == expected


def test_pillow_averages_the_pixels_that_a_smaller_frame_covers():
    image = np.zeros((40, 40, 3), np.float32)
    image[:, ::4] = 300  # colours out of range are cut off
    resized = ResizeShortSide(10, backend="pillow")(dict(img=image, img_shape=(40, 40)))["img"]
    assert resized.dtype == np.uint8
    assert np.abs(resized[2:-2, 2:-2].astype(float) - 255 / 4).max() < 20
    plain = ResizeShortSide(10)(dict(img=image, img_shape=(40, 40)))["img"]
    assert plain.max() == 0  # without anti-aliasing the stripes are gone


def test_boxes_are_resized_with_the_frame():
    frame = dict(
        img=np.zeros((48, 85, 3), np.uint8),
        img_shape=(48, 85),
        gt_bboxes=np.array([[8.5, 4.8, 85, 48]], np.float32),
    )
    resized = ResizeShortSide(24)(frame)
    assert resized["img_shape"] == (24, 42)
    np.testing.assert_allclose(resized["gt_bboxes"], [[4.2, 2.4, 42, 24]], rtol=1e-6)
