"""Tracks as annotations of other tools, and back through the converters."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils
from test_cvat_sink import CLASSES, filled, present, results_of
from test_sinks import make_result, make_video, write_all

from mmvis_plugin.apis import COCOVideoSink, LabelMeSink, VideoError, VOSSink
from mmvis_plugin.datasets.converters import cocovid_to_ytvis, convert_labelme, convert_vos
from mmvis_plugin.datasets.shapes_vis import generate_video
from mmvis_plugin.ytvis.categories import SHAPES


@pytest.fixture(scope="module")
def video():
    return generate_video(5, "valid", 0, (24, 24), (96, 128), len(SHAPES), 2)


def objects_of(content):
    """(label, {frame: mask}) of each annotation."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    return [
        (
            CLASSES.index(names[annotation["category_id"]])
            if names[annotation["category_id"]] in CLASSES
            else None,
            {
                t: mask_utils.decode(rle).astype(bool)
                for t, rle in enumerate(annotation["segmentations"])
                if rle
            },
        )
        for annotation in content["annotations"]
    ]


def test_masks_come_back_from_video_json(tmp_path, video):
    write_all(COCOVideoSink(tmp_path / "v_coco.json"), results_of(video))
    objects = objects_of(cocovid_to_ytvis(tmp_path / "v_coco.json").content)
    assert [label for label, _ in objects] == video.labels.tolist()
    for n, (_, masks) in enumerate(objects):
        assert sorted(masks) == present(video, n)
        assert all(np.array_equal(mask, video.masks[t, n]) for t, mask in masks.items())


def test_video_json_of_no_tracks(tmp_path):
    stream = make_video()
    write_all(COCOVideoSink(tmp_path / "v.json"), [make_result(stream, 0, [])])
    content = json.loads((tmp_path / "v.json").read_text())
    assert content["annotations"] == [] and len(content["images"]) == 1


def test_masks_come_back_from_indexed_pngs(tmp_path, video):
    frames = tmp_path / "JPEGImages" / "v"
    frames.mkdir(parents=True)
    for t, image in enumerate(video.frames):
        cv2.imwrite(str(frames / f"{t:05d}.png"), image)
    write_all(VOSSink(tmp_path / "Annotations" / "v"), results_of(video))
    content = convert_vos(tmp_path / "JPEGImages", tmp_path / "Annotations").content
    objects = objects_of(content)
    assert len(objects) == len(video.labels)
    # Objects are numbered as they appear.
    order = sorted(range(len(video.labels)), key=lambda n: (present(video, n)[0], n))
    for n, (_, masks) in zip(order, objects, strict=True):
        assert all(np.array_equal(mask, video.masks[t, n]) for t, mask in masks.items())
        assert sorted(masks) == present(video, n)


def test_indexed_pngs_have_the_colours_of_davis_and_no_room_for_more(tmp_path):
    stream = make_video(size=(320, 16))
    rows = np.eye(320, dtype=bool)[:, None].repeat(16, axis=1)
    objects = [(n, 0, 0.9, rows[n]) for n in range(254)]
    write_all(VOSSink(tmp_path / "v"), [make_result(stream, 0, objects)])
    with Image.open(tmp_path / "v" / "00000.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
        assert sorted(set(np.asarray(picture).ravel().tolist())) == list(range(255))
    objects.append((254, 0, 0.9, rows[254]))
    with pytest.raises(VideoError, match="more than 254 objects.*id maps of 16 bits"):
        write_all(VOSSink(tmp_path / "w"), [make_result(stream, 0, objects)])
    assert not Path(tmp_path / "w").exists()


def test_polygons_come_back_from_labelme(tmp_path, video):
    write_all(LabelMeSink(tmp_path / "v"), results_of(video))
    content = convert_labelme(tmp_path, classes=CLASSES).content
    objects = objects_of(content)
    for n, (label, masks) in enumerate(sorted(objects, key=lambda pair: pair[0])):
        twins = [k for k in range(len(video.labels)) if video.labels[k] == label]
        own = [k for k in twins if present(video, k) == sorted(masks)]
        assert own, n
        for t, mask in masks.items():
            wanted = [filled(video.masks[t, k]) for k in own]
            assert any(np.array_equal(mask, truth) for truth in wanted)
    assert len(objects) == len(video.labels)
    first = json.loads((tmp_path / "v" / "000000.json").read_text())
    picture = cv2.imread(str(tmp_path / "v" / first["imagePath"]))
    assert picture.shape[:2] == (first["imageHeight"], first["imageWidth"])


def test_other_files_of_a_folder_are_not_replaced(tmp_path):
    (tmp_path / "notes.txt").touch()
    for sink in (VOSSink, LabelMeSink):
        with pytest.raises(FileExistsError, match=r"holds other files \(notes.txt\)"):
            sink(tmp_path)
