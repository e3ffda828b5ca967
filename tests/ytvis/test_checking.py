import json

import cv2
import numpy as np
import pytest
from ytvis_content import box_mask, clean_content, compressed, write_content

from mmvis_plugin.datasets.shapes_vis import make_shapes_vis
from mmvis_plugin.ytvis.checking import check_ytvis


def check(tmp_path, content, **arguments):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    return check_ytvis(path, **arguments)


def found(report):
    return [(p.level, p.kind, p.video, p.annotation, p.frame) for p in report.problems]


def test_a_right_dataset_has_no_problems(tmp_path):
    content = clean_content()
    write_content(tmp_path, content)
    report = check(tmp_path, content, images=tmp_path / "train/JPEGImages", decode=True)
    assert found(report) == []
    assert report.counts == dict(videos=3, frames=9, annotations=5, masks=10, images=9)
    assert (
        report.classes
        == dict(
            cat=dict(videos=2, objects=2, masks=4),
            dog=dict(videos=2, objects=2, masks=5),
            owl=dict(videos=1, objects=1, masks=1),
        )
        or report.classes["dog"]["objects"] == 2
    )
    assert report.summary().endswith("0 errors, 0 warnings")


def test_the_synthetic_dataset_is_right(tmp_path):
    make_shapes_vis(tmp_path / "shapes", 2, 1, length=(24, 24))
    report = check_ytvis(tmp_path / "shapes/train.json", tmp_path / "shapes/train/JPEGImages")
    assert report.num_errors == 0


BOX = compressed(box_mask(4, 5, 6, 7))


def track(content, index=0):
    return content["annotations"][index]


def put(key, frame, value):
    """A change of the first object in one frame."""
    return lambda content: track(content)[key].__setitem__(frame, value)


FAULTS = {
    "video id twice": (
        lambda c: c["videos"][1].update(id=7),
        ("error", "duplicate_id", 7, None, None),
    ),
    "frame twice": (
        lambda c: c["videos"][0]["file_names"].__setitem__(1, c["videos"][0]["file_names"][0]),
        ("warning", "repeated_frame", 7, None, None),
    ),
    "unused class": (
        lambda c: c["categories"].append(dict(id=9, name="emu")),
        ("warning", "unused_class", None, None, None),
    ),
    "missing key": (
        lambda c: track(c).pop("category_id"),
        ("error", "schema", 7, 1, None),
    ),
    "width of an annotation": (
        lambda c: track(c).update(width=64),
        ("warning", "size", 7, 1, None),
    ),
    "too few masks": (lambda c: track(c)["segmentations"].pop(), ("error", "length", 7, 1, None)),
    "mask cut off": (
        put("segmentations", 2, dict(BOX, counts=BOX["counts"][:-1])),
        ("error", "mask", 7, 1, 2),
    ),
    "empty mask": (
        put("segmentations", 2, compressed(box_mask(0, 0, 0, 0))),
        ("warning", "empty_mask", 7, 1, 2),
    ),
    "absent object": (
        lambda c: track(c).update(segmentations=[None] * 4, bboxes=[None] * 4, areas=[None] * 4),
        ("warning", "absent_object", 7, 1, None),
    ),
    "box too wide": (put("bboxes", 2, [4, 5, 8, 7]), ("warning", "box", 7, 1, 2)),
    "box to the left": (put("bboxes", 2, [2, 5, 8, 7]), ("warning", "box", 7, 1, 2)),
    "box elsewhere": (
        put("bboxes", 2, [4, 5, 6, 9]),
        ("warning", "box", 7, 1, 2),
    ),
    "mask without box": (
        put("bboxes", 2, None),
        ("warning", "box", 7, 1, 2),
    ),
    "area too large": (put("areas", 2, 43), ("warning", "area", 7, 1, 2)),
    "mask without area": (
        put("areas", 2, None),
        ("warning", "area", 7, 1, 2),
    ),
    "no annotations": (
        lambda c: c.update(annotations=None),
        ("warning", "no_annotations", None, None, None),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_where_it_is(tmp_path, name):
    change, expected = FAULTS[name]
    content = clean_content()
    change(content)
    problems = found(check(tmp_path, content))
    assert expected in problems
    consequence = ("warning", "unused_class", None, None, None)
    local = [p for p in problems if p[2:] == expected[2:] and p != consequence]
    assert local == [expected] or expected == consequence, "one fault is one problem there"


def test_all_problems_are_found_at_once(tmp_path):
    content, expected = clean_content(), []
    for name in ("box elsewhere", "area too large", "unused class"):
        FAULTS[name][0](content)
        expected.append(FAULTS[name][1])
    del content["annotations"][2]
    problems = found(check(tmp_path, content))
    assert set(expected) <= set(problems)
    assert len(problems) == 4  # and owl, whose only object is gone


def test_tolerance_of_boxes_and_polygons(tmp_path):
    content = clean_content()
    track(content)["bboxes"][2] = [4.0, 5.0, 5.0, 6.0]  # without the last column and row
    track(content)["areas"][3] = 35.5  # of a polygon
    assert found(check(tmp_path, content)) == []


def test_images_are_looked_at(tmp_path):
    content = clean_content()
    write_content(tmp_path, content)
    images = tmp_path / "train/JPEGImages"
    (images / "v7/00001.jpg").unlink()
    (images / "v7/00002.jpg").write_bytes(b"")
    cv2.imwrite(str(images / "v9/00000.jpg"), np.zeros((32, 24, 3), np.uint8))
    cut = images / "v11/00001.jpg"
    cv2.imwrite(str(cut), np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8))
    cut.write_bytes(cut.read_bytes()[:-200])
    expected = [
        ("error", "missing_image", 7, None, 1),
        ("error", "unreadable_image", 7, None, 2),
        ("error", "image_size", 9, None, 0),
    ]
    assert found(check(tmp_path, content, images=images)) == expected
    decoded = found(check(tmp_path, content, images=images, decode=True))
    assert decoded == [*expected, ("error", "unreadable_image", 11, None, 1)]


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"videos": {}, "categories": null}'])
def test_files_of_another_kind_are_problems(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_text(text)
    assert check_ytvis(path).num_errors >= 1
    with pytest.raises(FileNotFoundError):
        check_ytvis(tmp_path / "gone.json")
    with pytest.raises(NotADirectoryError, match="folder of images"):
        check_ytvis(path, tmp_path / "gone")
