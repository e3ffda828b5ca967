import os

import numpy as np
import pytest
from PIL import Image

from mmvis_plugin.datasets.converters import ConversionError, YTVISBuilder
from mmvis_plugin.datasets.converters.builder import (
    encode_ids,
    encode_mask,
    encode_polygon,
    require,
)
from mmvis_plugin.datasets.converters.frames import (
    common_size,
    image_size,
    list_frames,
    relative_names,
)

from .cases import HEIGHT, WIDTH, box_mask, dense, write_frames


def test_tracks_get_boxes_areas_and_ids():
    builder = YTVISBuilder("test")
    first = builder.add_video(["a/0.jpg", "a/1.jpg", "a/2.jpg"], HEIGHT, WIDTH)
    second = builder.add_video(["b/0.jpg"], HEIGHT, WIDTH)
    masks = {2: encode_mask(box_mask(3, 4, 5, 6)), 0: encode_mask(box_mask(0, 0, 2, 2))}
    builder.add_track(first, "owl", {**masks, 1: encode_mask(box_mask(0, 0, 0, 0))})
    builder.add_track(second, "cat", {0: masks[0]}, crowd=True)
    builder.add_track(second, "cat", {})
    conversion = builder.build()
    content = conversion.content
    assert [c["name"] for c in content["categories"]] == ["cat", "owl"]
    assert [v["length"] for v in content["videos"]] == [3, 1]
    owl, cat = content["annotations"]
    assert (owl["id"], owl["video_id"], owl["category_id"], owl["iscrowd"]) == (1, 1, 2, 0)
    assert owl["bboxes"] == [[0, 0, 2, 2], None, [3, 4, 5, 6]]
    assert owl["areas"] == [4, None, 30]
    assert owl["segmentations"][1] is None
    assert np.array_equal(dense(owl)[2], box_mask(3, 4, 5, 6))
    assert (cat["id"], cat["video_id"], cat["category_id"], cat["iscrowd"]) == (2, 2, 1, 1)
    assert conversion.left_out == {
        "masks without a pixel in the frame": 1,
        "objects without a mask in any frame": 1,
    }


def test_classes_are_in_order_of_their_names_unless_given():
    names = ["owl", "cat", "newt", "ape", "emu", "fox", "bee"]
    for given, expected in ((None, sorted(names)), (names, names)):
        builder = YTVISBuilder("test", given)
        video = builder.add_video(["a/0.jpg"], HEIGHT, WIDTH)
        for name in names:
            builder.add_track(video, name, {0: encode_mask(box_mask(0, 0, 2, 2))})
        categories = builder.build().content["categories"]
        assert [(c["id"], c["name"]) for c in categories] == list(enumerate(expected, start=1))


def test_summary_counts_what_was_written(tmp_path):
    builder = YTVISBuilder("test", ["cat", "dog"])
    video = builder.add_video(["a/0.jpg", "a/1.jpg"], HEIGHT, WIDTH)
    builder.add_track(video, "dog", {0: encode_mask(box_mask(1, 1, 2, 2))})
    builder.left_out["lines"] += 3
    builder.notes.append("look at it")
    text = builder.build().write(tmp_path / "new" / "out.json")
    assert "1 videos, 2 frames, 1 objects, 2 classes" in text
    assert "left out: 3 x lines" in text and "note: look at it" in text
    assert os.listdir(tmp_path / "new") == ["out.json"]


def test_unknown_class_and_no_video_are_refused():
    builder = YTVISBuilder("test", ["cat"])
    video = builder.add_video(["zoo/0.jpg"], HEIGHT, WIDTH)
    with pytest.raises(ConversionError, match="video zoo: class 'dog' is not among cat"):
        builder.add_track(video, "dog", {})
    with pytest.raises(ConversionError, match="no video"):
        YTVISBuilder("test").build()
    with pytest.raises(ConversionError, match="twice"):
        YTVISBuilder("test", ["cat", "cat"])


def test_regions_of_an_index_image():
    id_map = np.random.default_rng(0).integers(0, 4, (HEIGHT, WIDTH)).astype(np.uint16) * 999
    rles = encode_ids(id_map, [999, 2997, 5])
    masks = [dense(dict(height=HEIGHT, width=WIDTH, segmentations=[r]))[0] for r in rles]
    for mask, id_ in zip(masks, (999, 2997, 5), strict=True):
        assert np.array_equal(mask, id_map == id_)
    assert encode_ids(id_map, []) == []


def test_polygons_are_cut_off_at_the_frame_and_checked():
    polygon = np.array([(-5, 4), (8, 4), (8, 40), (-5, 40)])
    mask = dense(dict(height=24, width=32, segmentations=[encode_polygon(polygon, 24, 32)]))[0]
    assert np.array_equal(mask, box_mask(0, 4, 8, 20))
    for bad in (polygon[:2], polygon * 1e7, polygon * np.nan):
        with pytest.raises(ValueError, match="three points|coordinates"):
            encode_polygon(bad, 24, 32)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "place: expected an object, got a list"),
        ({}, "place: key 'id' is missing"),
        (dict(id=True), "place: 'id' must be int or str, got True"),
        (dict(id=1.0), "'id' must be int"),
        (dict(id=1, size=float("nan")), "'size' must be float"),
    ],
)
def test_keys_and_types_are_checked(record, message):
    with pytest.raises(ConversionError, match=message):
        require(record, dict(id=(int, str), size=float), "place")
    require(dict(id="a", size=3, more=None), dict(id=(int, str), size=float), "place")


def test_frames_come_in_natural_order(tmp_path):
    write_frames(tmp_path / "v", ["10.jpg", "9.jpg", "100.jpg"])
    (tmp_path / "v" / "notes.txt").touch()
    frames = list_frames(tmp_path / "v")
    assert relative_names(frames, tmp_path) == ["v/9.jpg", "v/10.jpg", "v/100.jpg"]
    assert common_size(frames) == (HEIGHT, WIDTH)
    with pytest.raises(ConversionError, match="not in the folder of images"):
        relative_names(frames, tmp_path / "elsewhere")


def test_linked_folders_of_frames_keep_their_names(tmp_path):
    write_frames(tmp_path / "disk" / "v", ["0.jpg"])
    (tmp_path / "images").symlink_to(tmp_path / "disk")
    frames = list_frames(tmp_path / "images" / "v")
    assert relative_names(frames, tmp_path / "images") == ["v/0.jpg"]


def test_unusable_frames_are_named(tmp_path):
    with pytest.raises(ConversionError, match="gone does not exist"):
        list_frames(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConversionError, match="empty has no images"):
        list_frames(tmp_path / "empty")
    write_frames(tmp_path / "twice", ["1.jpg", "1.png"])
    with pytest.raises(ConversionError, match="1.jpg and 1.png are the same frame"):
        list_frames(tmp_path / "twice")
    small, large = write_frames(tmp_path / "a", ["0.png"]) + write_frames(
        tmp_path / "a", ["1.png"], height=30
    )
    with pytest.raises(ConversionError, match=r"1\.png is 32 x 30 pixels, but 0\.png .* 32 x 24"):
        common_size([small, large])
    large.write_bytes(b"")
    with pytest.raises(ConversionError, match=r"1\.png cannot be read as an image"):
        common_size([small, large])
    with pytest.raises(ConversionError, match=r"2\.png does not exist"):
        common_size([small, tmp_path / "2.png"])


def test_images_are_measured_as_opencv_loads_them(tmp_path):
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone held upright
    Image.new("RGB", (WIDTH, HEIGHT)).save(turned, exif=exif)
    assert image_size(turned) == image_size(turned, decode=True) == (WIDTH, HEIGHT)

    cut = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    assert image_size(cut) == (64, 64)
    with pytest.raises(ValueError, match="truncated|decoded"):
        image_size(cut, decode=True)
