import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as mask_util

from mmvis_plugin.datasets.converters import ConversionError, YTVISBuilder
from mmvis_plugin.datasets.converters.encoding import (
    add_mask,
    encode_ids,
    encode_mask,
    encode_polygon,
    plain_counts,
)
from mmvis_plugin.datasets.converters.frames import (
    common_size,
    list_frames,
    read_index_image,
    relative_names,
)
from mmvis_plugin.datasets.converters.records import listing, read_json, require, whole_number
from mmvis_plugin.ytvis.frame_files import image_size
from mmvis_plugin.ytvis.problems import FormatError

from .cases import HEIGHT, WIDTH, box_mask, dense, write_frames

SQUARE = {0: encode_mask(box_mask(0, 0, 2, 2))}


@pytest.fixture
def build(tmp_path):
    """Function that makes a builder over a folder of frames, and its first videos."""

    def make(*lengths, classes=None):
        builder = YTVISBuilder("test", tmp_path, classes)
        videos = []
        for name, length in zip("abc", lengths, strict=False):
            frames = write_frames(tmp_path / name, [f"{t}.jpg" for t in range(length)])
            videos.append(builder.add_video(frames))
        return builder, *videos

    return make


def test_tracks_get_boxes_areas_and_ids(build):
    builder, first, second = build(3, 1)
    masks = {2: encode_mask(box_mask(3, 4, 5, 6)), **SQUARE}
    builder.add_track(first, "owl", {**masks, 1: encode_mask(box_mask(0, 0, 0, 0))})
    builder.add_track(second, "cat", SQUARE, crowd=True)
    builder.add_track(second, "cat", {})
    conversion = builder.build("test.xml")
    content = conversion.content
    assert [c["name"] for c in content["categories"]] == ["cat", "owl"]
    assert content["videos"][1] == dict(
        id=2, width=WIDTH, height=HEIGHT, length=1, file_names=["b/0.jpg"]
    )
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


def test_classes_are_in_order_of_their_names_unless_given(build):
    names = ["owl", "cat", "newt", "ape", "emu", "fox", "bee"]
    for given_classes, expected in ((None, sorted(names)), (names, names)):
        builder, video = build(1, classes=given_classes)
        for name in names:
            builder.add_track(video, name, SQUARE)
        categories = builder.build("test.xml").content["categories"]
        assert [(c["id"], c["name"]) for c in categories] == list(enumerate(expected, start=1))


def test_classes_that_differ_in_capitals_or_spaces_are_noted(build):
    builder, video = build(1)
    for name in ("Cow ", "cow", "cows"):
        builder.add_track(video, name, SQUARE)
    (note,) = builder.build("test.xml").notes
    assert note == "the class names 'Cow ' and 'cow' differ in case or spaces only"


def test_what_the_reader_would_refuse_is_not_written(build):
    builder, video = build(1)
    builder.add_track(video, "", SQUARE)
    with pytest.raises(FormatError, match="converted from test: categories.0.: 'name' must be a"):
        builder.build("test.xml")


def test_summary_says_what_was_written(build, tmp_path):
    builder, video = build(2, classes=["cat", "dog"])
    builder.add_track(video, "dog", SQUARE)
    builder.left_out["lines"] += 3
    builder.notes.append("look at it")
    text = builder.build("test.xml").write(tmp_path / "new" / "out.json")
    assert "(videos: 1, frames: 2, objects: 1, classes: cat, dog)" in text
    assert "left out: 3 x lines" in text and "note: look at it" in text
    assert os.listdir(tmp_path / "new") == ["out.json"]


def test_unknown_classes_and_empty_datasets_are_refused(build):
    many = [f"class{i}" for i in range(200_000)]
    builder, video = build(1, classes=many)
    with pytest.raises(
        ConversionError, match="video a: class 'dog' is not .* and 199990 more"
    ) as e:
        builder.add_track(video, "dog", {})
    assert len(str(e.value)) < 300
    builder.left_out["lines"] += 3
    with pytest.raises(
        ConversionError, match="test.xml: there is no object .*; left out: 3 x lines"
    ):
        builder.build("test.xml")
    with pytest.raises(ConversionError, match="no video"):
        build()[0].build("test.xml")
    with pytest.raises(ConversionError, match="a class is given twice"):
        build(classes=["cat", "cat"])


# --- masks --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    arrays(
        np.uint16,
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.sampled_from([0, 1, 999, 65535]),
    )
)
def test_regions_of_an_index_image(id_map):
    rles = encode_ids(id_map)
    assert list(rles) == [id_ for id_ in np.unique(id_map) if id_]
    for id_, rle in rles.items():
        expected = mask_util.encode(np.asfortranarray(id_map == id_, np.uint8))
        assert rle == dict(size=expected["size"], counts=expected["counts"].decode())


def test_the_memory_for_an_index_image_is_bounded():
    id_map = np.arange(250 * 260, dtype=np.uint16).reshape(250, 260)  # all ids of 16 bits
    tracemalloc.start()
    assert len(encode_ids(id_map)) == id_map.size - 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # a mask for each would be 4 GB


def test_polygons_are_cut_off_at_the_frame_and_checked():
    polygon = np.array([(-5, 4), (8, 4), (8, 40), (-5, 40)])
    mask = dense(dict(height=24, width=32, segmentations=[encode_polygon(polygon, 24, 32)]))[0]
    assert np.array_equal(mask, box_mask(0, 4, 8, 20))
    for bad in (polygon[:2], polygon * 1e7, polygon * np.nan):
        with pytest.raises(ValueError, match="three points|coordinates"):
            encode_polygon(bad, 24, 32)


def test_parts_of_a_mask_are_united():
    masks = {}
    for box in ((1, 1, 4, 4), (3, 3, 9, 2)):
        add_mask(masks, 5, encode_mask(box_mask(*box)))
    (mask,) = dense(dict(height=HEIGHT, width=WIDTH, segmentations=[masks[5]]))
    assert np.array_equal(mask, box_mask(1, 1, 4, 4) | box_mask(3, 3, 9, 2))
    assert isinstance(masks[5]["counts"], str)


def test_counts_written_as_python_bytes_are_read():
    counts = rb"0\3P1"
    assert plain_counts(repr(counts)) == plain_counts(counts.decode()) == counts.decode()
    assert plain_counts("b'") == "b'" and plain_counts([1, 2]) == [1, 2]


# --- records ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "number"),
    [(7, 7), (7.0, 7), ("7", 7), ("-7", -7), (7.5, None), ("07", None), (True, None), (None, None)]
    + [("x", None), (float("nan"), None), (float("inf"), None), ([7], None), ("٧", None)],
)
def test_whole_numbers_of_other_programs(value, number):
    assert whole_number(value) == number


def test_files_that_are_no_json_are_named(tmp_path):
    path = tmp_path / "a.json"
    for data, message in (
        ('{"a": "行人"}'.encode("gbk"), "a.json is not text in utf-8"),
        (b'{"a": "\xed\xa0\x80"}', "a.json is not text in utf-8"),
        (b"[" * 100_000, "a.json: not valid JSON"),
        (b"1" * 5000, "a.json: not valid JSON"),
        (b"[NaN]", "a.json: JSON has no NaN"),
    ):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=message):
            read_json(path)
    path.write_bytes('{"a": "行人"}'.encode("gbk"))
    assert read_json(path, "gbk") == dict(a="行人")
    assert listing(["a"] * 12).endswith("a and 2 more")


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


# --- frames -------------------------------------------------------------------------------------


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


def test_index_images_are_checked_before_they_are_decoded(tmp_path):
    path = tmp_path / "ids.png"
    Image.new("L", (8000, 9000)).save(path)
    tracemalloc.start()
    for modes, message in ((("P", "L"), "8000 x 9000 pixels, its frame 32 x 24"), (("I",), "ids")):
        with pytest.raises(ConversionError, match=rf"ids\.png is .*{message}"):
            read_index_image(path, (24, 32), modes, "of ids")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6  # the pixels are 72 MB
