import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets import BaseVideoDataset
from pycocotools import mask as mask_util

from mmvis_plugin.datasets import YTVISDataset
from mmvis_plugin.datasets.converters import (
    ConversionError,
    cocovid_to_ytvis,
    ytvis_to_cocovid,
)
from mmvis_plugin.ytvis.problems import FormatError

from .cases import HEIGHT, WIDTH, box_mask, rle, write_frames, write_json


def official(lengths=(3, 2), masks=None, **more):
    """Official JSON of videos of these lengths; masks[video][object] is a list over frames."""
    videos = [
        dict(
            id=i + 5,
            width=WIDTH,
            height=HEIGHT,
            length=length,
            file_names=[f"v{i}/{t:05d}.jpg" for t in range(length)],
        )
        for i, length in enumerate(lengths)
    ]
    annotations = []
    for video, tracks in zip(videos, masks or (), strict=False):
        for category_id, segmentations in tracks:
            present = [s is not None for s in segmentations]
            boxes = [mask_util.toBbox(s).tolist() if s else None for s in segmentations]
            annotations.append(
                dict(
                    id=len(annotations) + 11,
                    video_id=video["id"],
                    category_id=category_id,
                    iscrowd=int(len(annotations) == 1),
                    width=WIDTH,
                    height=HEIGHT,
                    length=video["length"],
                    segmentations=segmentations,
                    bboxes=boxes,
                    areas=[
                        int(mask_util.area(s)) if p else None
                        for s, p in zip(segmentations, present, strict=True)
                    ],
                )
            )
    return dict(
        info=dict(year=2021),
        licenses=[dict(id=1)],
        categories=[dict(id=2, name="cat"), dict(id=7, name="owl", supercategory="bird")],
        videos=videos,
        annotations=annotations,
        **more,
    )


A, B = rle(box_mask(2, 3, 9, 8)), rle(box_mask(10, 1, 5, 20))


def usual():
    return official(masks=[[(7, [A, None, B]), (2, [None, B, A])], [(2, [B, B])]])


def round_trip(tmp_path, content):
    there = ytvis_to_cocovid(write_json(tmp_path / "official.json", content))
    there.write(tmp_path / "cocovid.json")
    back = cocovid_to_ytvis(tmp_path / "cocovid.json")
    return there.content, back.content


def test_layout_is_that_of_mmdetections_converter(tmp_path):
    content, _ = round_trip(tmp_path, usual())
    assert content["categories"] == usual()["categories"] and content["info"] == dict(year=2021)
    assert content["videos"][0] == dict(id=5, name="v0", width=WIDTH, height=HEIGHT)
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4, 5]
    assert content["images"][3] == dict(
        file_name="v1/00000.jpg", height=HEIGHT, width=WIDTH, id=4, frame_id=0, video_id=6
    )
    assert [a["id"] for a in content["annotations"]] == list(range(1, 7))
    assert content["annotations"][1] == dict(
        id=2,
        video_id=5,
        image_id=2,
        category_id=2,
        instance_id=12,
        bbox=[10.0, 1.0, 5.0, 20.0],
        segmentation=B,
        area=100,
        iscrowd=1,
    )


segmentation = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 20), st.integers(0, 12), st.integers(1, 12), st.integers(1, 12)).map(
        lambda box: rle(box_mask(*box))
    ),
)


@st.composite
def official_content(draw):
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    masks = [
        draw(
            st.lists(
                st.tuples(
                    st.sampled_from([2, 7]), st.lists(segmentation, min_size=n, max_size=n)
                ).filter(lambda track: any(track[1])),
                min_size=n == lengths[0],
                max_size=3,
            )
        )
        for n in lengths
    ]
    return official(lengths, masks)


@settings(deadline=None, max_examples=60)
@given(content=official_content())
def test_round_trip_gives_the_same_json(tmp_path_factory, content):
    _, back = round_trip(tmp_path_factory.mktemp("trip"), content)
    assert back == content


def test_mmdetection_reads_from_it_what_our_dataset_reads_from_the_original(tmp_path):
    content = usual()
    round_trip(tmp_path, content)
    for video in content["videos"]:
        for name in video["file_names"]:
            write_frames(tmp_path / "images" / name.split("/")[0], [name.split("/")[1]])
    arguments = dict(data_prefix=dict(img_path=str(tmp_path / "images")), test_mode=True)
    ours = YTVISDataset(ann_file=str(tmp_path / "official.json"), **arguments)
    theirs = BaseVideoDataset(
        ann_file=str(tmp_path / "cocovid.json"), metainfo=dict(classes=("cat", "owl")), **arguments
    )
    assert len(ours) == len(theirs) == 2
    for i in range(2):
        mine, other = ours.get_data_info(i), theirs.get_data_info(i)
        assert mine["video_id"] == other["video_id"]
        assert mine["video_length"] == other["video_length"]
        for a, b in zip(mine["images"], other["images"], strict=True):
            assert a["img_path"] == b["img_path"] and a["frame_id"] == b["frame_id"]
            assert len(a["instances"]) == len(b["instances"])
            for x, y in zip(a["instances"], b["instances"], strict=True):
                for key in ("bbox", "bbox_label", "mask", "ignore_flag"):
                    assert x[key] == y[key], key


def test_polygons_and_uncompressed_masks_are_copied(tmp_path):
    content = usual()
    polygons = [[2, 3, 11, 3, 11, 11, 2, 11]]
    content["annotations"][0]["segmentations"][0] = polygons
    _, back = round_trip(tmp_path, content)
    assert back["annotations"][0]["segmentations"][0] == polygons


def test_missing_boxes_and_areas_come_from_the_masks(tmp_path):
    content = usual()
    for annotation in content["annotations"]:
        del annotation["bboxes"], annotation["areas"]
    there, back = round_trip(tmp_path, content)
    assert back["annotations"] == usual()["annotations"]
    for annotation in there["annotations"]:
        del annotation["bbox"], annotation["area"]
    again = cocovid_to_ytvis(write_json(tmp_path / "bare.json", there)).content
    assert again["annotations"] == usual()["annotations"]


@pytest.mark.parametrize("annotations", [None, "missing"])
def test_validation_sets_have_no_annotations(tmp_path, annotations):
    content = dict(usual(), annotations=annotations)
    if annotations == "missing":
        del content["annotations"]
    there, back = round_trip(tmp_path, content)
    assert "annotations" not in there
    assert back == dict(usual(), annotations=None)


def test_what_is_lost_is_told(tmp_path):
    content = usual()
    content["annotations"][0]["occlusion"] = ["no_occlusion"] * 3
    content["annotations"][2].update(
        segmentations=[None, None], bboxes=[None] * 2, areas=[None] * 2
    )
    there = ytvis_to_cocovid(write_json(tmp_path / "official.json", content))
    assert there.left_out == {
        "lists 'occlusion' of objects": 1,
        "objects without a mask in any frame": 1,
    }


def test_instance_ids_that_start_again_in_each_video_are_numbered_anew(tmp_path):
    there, _ = round_trip(tmp_path, usual())
    for annotation in there["annotations"]:
        annotation["instance_id"] = {11: 1, 12: 2, 13: 1}[annotation["instance_id"]]
    back = cocovid_to_ytvis(write_json(tmp_path / "c.json", there)).content
    assert [a["id"] for a in back["annotations"]] == [1, 2, 3]
    expected = [dict(a, id=i + 1) for i, a in enumerate(usual()["annotations"])]
    assert back["annotations"] == expected


def test_ids_that_mmdetection_would_take_for_missing_are_replaced(tmp_path):
    content = usual()
    content["annotations"][0]["id"] = 0
    there, _ = round_trip(tmp_path, content)
    assert sorted({a["instance_id"] for a in there["annotations"]}) == [1, 2, 3]


def test_frames_are_ordered_by_frame_id(tmp_path):
    there, _ = round_trip(tmp_path, usual())
    there["images"].reverse()
    back = cocovid_to_ytvis(write_json(tmp_path / "c.json", there)).content
    assert back["videos"] == usual()["videos"]


# --- what other programs write --------------------------------------------------------------------


def as_pandas(record, keys):
    record.update({key: float(record[key]) for key in keys})


def as_text(record, keys):
    record.update({key: str(record[key]) for key in keys})


def as_track_id(record, keys):
    if "instance_id" in keys:
        record["track_id"] = record.pop("instance_id")


def as_attribute(record, keys):
    if "instance_id" in keys:
        record["attributes"] = dict(occluded=False, track_id=record.pop("instance_id"))


@pytest.mark.parametrize("write", [as_pandas, as_text, as_track_id, as_attribute])
def test_numbers_and_ids_of_other_programs(tmp_path, write):
    there, _ = round_trip(tmp_path, usual())
    for category in there["categories"]:
        write(category, ["id"])
    for video in there["videos"]:
        write(video, ["id", "height", "width"])
    for image in there["images"]:
        write(image, ["id", "video_id", "frame_id", "height", "width"])
    for i, item in enumerate(there["annotations"]):
        write(item, ["image_id", "video_id", "category_id", "instance_id"])
        if write is as_pandas:
            item["iscrowd"] = float(item["iscrowd"])
        if i == 1:  # not all in one way
            item["image_id"] = int(item["image_id"])
    assert cocovid_to_ytvis(write_json(tmp_path / "c.json", there)).content == usual()


def test_images_of_a_folder_are_a_video_if_objects_have_track_ids(tmp_path):
    """CVAT's and others' COCO exports of a video have neither videos nor frame ids."""
    there, _ = round_trip(tmp_path, usual())
    del there["videos"]
    for image in there["images"]:
        del image["video_id"], image["frame_id"]
    for item in there["annotations"]:
        del item["video_id"]
        as_attribute(item, ["instance_id"])
    there["images"].reverse()
    conversion = cocovid_to_ytvis(write_json(tmp_path / "c.json", there))
    (note,) = conversion.notes
    assert "the images of a folder are taken for a video" in note
    assert conversion.content["videos"] == [dict(v, id=v["id"] - 4) for v in usual()["videos"]]
    expected = [dict(a, video_id=a["video_id"] - 4) for a in usual()["annotations"]]
    assert conversion.content["annotations"] == expected
    del there["annotations"][3]["attributes"]
    with pytest.raises(ConversionError, match="a JSON of images, .*'CVAT for video 1.1'"):
        cocovid_to_ytvis(write_json(tmp_path / "c.json", there))


def test_missing_frames_are_noted(tmp_path):
    there, _ = round_trip(tmp_path, usual())
    for image in there["images"]:  # every fifth frame
        image["frame_id"] *= 5
    assert not cocovid_to_ytvis(write_json(tmp_path / "c.json", there)).notes
    there["images"][2]["frame_id"] = 20
    (note,) = cocovid_to_ytvis(write_json(tmp_path / "c.json", there)).notes
    assert note.startswith(
        "frame ids are missing, as in video 5 between 5 and 20 (videos with gaps: 1)"
    )


def test_backslashes_in_file_names_are_written_as_slashes(tmp_path):
    there, _ = round_trip(tmp_path, usual())
    for image in there["images"]:
        image["file_name"] = image["file_name"].replace("/", "\\")
    conversion = cocovid_to_ytvis(write_json(tmp_path / "c.json", there))
    assert conversion.content == usual()
    assert conversion.notes == ["backslashes in 5 file names are written as '/'"]


def test_counts_written_as_python_bytes_are_read(tmp_path):
    there, _ = round_trip(tmp_path, usual())
    for item in there["annotations"]:
        item["segmentation"]["counts"] = repr(item["segmentation"]["counts"].encode())
    assert cocovid_to_ytvis(write_json(tmp_path / "c.json", there)).content == usual()


@pytest.mark.parametrize("convert", [cocovid_to_ytvis, ytvis_to_cocovid])
def test_datasets_without_objects_are_refused(tmp_path, convert):
    content = dict(usual(), annotations=[])
    if convert is cocovid_to_ytvis:
        content = dict(round_trip(tmp_path, usual())[0], annotations=[])
    with pytest.raises(ConversionError, match="there is no object to convert"):
        convert(write_json(tmp_path / "c.json", content))


COCOVID_FAULTS = {
    "key 'images' is missing": lambda c: c.pop("images"),
    "no video_id or frame_id: this is a JSON of images": lambda c: c["images"][0].pop("video_id"),
    "the id 1 is used by two images": lambda c: c["images"][1].update(id=1),
    "a frame_id is used by two images": lambda c: c["images"][1].update(frame_id=0),
    r"several sizes \(height, width\): \(24, 32\), \(24, 99\)": lambda c: c["images"][1].update(
        width=99
    ),
    "image 1: there is no video 77": lambda c: c["images"][0].update(video_id=77),
    r"videos\[1\] \(id 6\): there is no image": lambda c: c.update(images=c["images"][:3]),
    r"videos\[1\] \(id 5\): this id is used by two videos": lambda c: c["videos"][1].update(id=5),
    "there is no image with this id": lambda c: c.update(videos=[], images=[]),
    "annotations\\[0\\] of image 1 has no instance_id": lambda c: c["annotations"][0].pop(
        "instance_id"
    ),
    "image 99, instance 11: there is no image": lambda c: c["annotations"][0].update(image_id=99),
    "video_id is 6, but the image is of video 5": lambda c: c["annotations"][0].update(video_id=6),
    "there is no category with the category_id 9": lambda c: [
        item.update(category_id=9) for item in c["annotations"]
    ],
    "category 2 and iscrowd 0, but 7 and 0 in an earlier": lambda c: c["annotations"][2].update(
        category_id=2
    ),
    "the instance occurs twice in this image": lambda c: c["annotations"].append(
        c["annotations"][0]
    ),
    "there is no segmentation; boxes alone": lambda c: c["annotations"][0].pop("segmentation"),
    "annotation 11: frame 0: the segmentation: RLE of size": lambda c: c["annotations"][0].update(
        segmentation=rle(np.ones((4, 4), bool))
    ),
    "annotation 11: frame 0: the .* the RLE describes 0 pixels": lambda c: c["annotations"][
        0
    ].update(segmentation=dict(size=[HEIGHT, WIDTH], counts="0")),
    "annotations": lambda c: c.update(annotations={}),
    "the id 2 is used by two categories": lambda c: c["categories"][1].update(id=2),
}


@pytest.mark.parametrize("message", COCOVID_FAULTS)
def test_contradictions_of_mmdetections_layout_are_named(tmp_path, message):
    content = copy.deepcopy(round_trip(tmp_path, usual())[0])
    COCOVID_FAULTS[message](content)
    path = write_json(tmp_path / "faulty.json", content)
    with pytest.raises(FormatError, match=message) as error:
        cocovid_to_ytvis(path)
    assert "faulty.json" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", json.dumps(dict(videos=1, categories=[]))])
def test_files_of_another_kind_are_refused(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(FormatError, match="odd.json"):
        cocovid_to_ytvis(path)
