import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from mmvis_plugin.datasets.converters import ConversionError, convert_labelme
from mmvis_plugin.ytvis.problems import FormatError

from .cases import HEIGHT, WIDTH, box_mask, named_tracks, write_frames, write_json


def shape(label, points, kind="polygon", group=None, **more):
    return dict(
        label=label,
        points=points,
        group_id=group,
        description="",
        shape_type=kind,
        flags={},
        **more,
    )


def label_file(path, shapes, image=None, change=()):
    """A file as LabelMe 5 writes it."""
    content = dict(
        version="5.5.0",
        flags={},
        shapes=shapes,
        imagePath=image or f"{path.stem}.jpg",
        imageData=None,
        imageHeight=HEIGHT,
        imageWidth=WIDTH,
    )
    return write_json(path, content | dict(change))


def png(mask):
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def rectangle(x, y, right, bottom):
    return [[x, y], [right, bottom]]


@pytest.fixture
def walk(tmp_path):
    """Three frames: cat 1 in the first and, in two parts, in the last; dog 1 in the last."""
    folder = tmp_path / "walk"
    write_frames(folder, [f"{t}.jpg" for t in (8, 9, 10)])
    label_file(folder / "8.json", [shape("cat", rectangle(2, 3, 6, 9), "rectangle", 1)])
    label_file(folder / "9.json", [])
    label_file(
        folder / "10.json",
        [
            shape("cat", rectangle(2, 3, 6, 9), "rectangle", 1),
            shape("dog", rectangle(20, 2, 28, 8), "rectangle", 1),
            shape("cat", rectangle(10, 12, 14, 20), "rectangle", 1),
        ],
    )
    return tmp_path


def test_group_ids_are_identities_over_the_frames(walk, usable):
    conversion = convert_labelme(walk)
    content = conversion.content
    assert content["videos"][0]["file_names"] == ["walk/8.jpg", "walk/9.jpg", "walk/10.jpg"]
    (first, cat), (second, dog) = named_tracks(content)
    assert first == ("walk", "cat", 0) and second == ("walk", "dog", 0)
    # LabelMe's own drawing takes the right and lower edge in.
    part = box_mask(2, 3, 5, 7)
    assert np.array_equal(cat, [part, part & False, part | box_mask(10, 12, 5, 9)])
    assert np.array_equal(dog[2], box_mask(20, 2, 9, 7)) and not dog[:2].any()
    assert content["annotations"][0]["segmentations"][1] is None
    usable(conversion, walk)


def circle_mask(x, y, radius):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


PATCH = np.array([[1, 0, 1], [1, 1, 1]], bool)


@pytest.mark.parametrize(
    ("kind", "points", "more", "expected"),
    [
        ("polygon", [[4, 2], [9, 2], [9, 7], [4, 7]], {}, box_mask(4, 2, 6, 6)),
        (None, [[4, 2], [9, 2], [9, 7], [4, 7]], {}, box_mask(4, 2, 6, 6)),
        ("rectangle", [[9, 7], [4, 2]], {}, box_mask(4, 2, 6, 6)),
        ("rectangle", [[-9, -7], [4, 2]], {}, box_mask(0, 0, 5, 3)),
        ("oriented_rectangle", [[4, 2], [9, 2], [9, 7], [4, 7]], {}, box_mask(4, 2, 6, 6)),
        ("mask", [[4, 2], [6, 3]], dict(mask=png(PATCH)), np.pad(PATCH, ((2, 20), (4, 25)))),
        ("mask", [[-1, 23], [1, 24]], dict(mask=png(PATCH)), None),
    ],
)
def test_shapes_are_drawn_as_labelme_draws_them(tmp_path, kind, points, more, expected):
    write_frames(tmp_path / "v", ["0.jpg"])
    label_file(tmp_path / "v" / "0.json", [shape("cat", points, kind, 4, **more)])
    ((_, masks),) = named_tracks(convert_labelme(tmp_path).content)
    if expected is None:  # a patch over the corner
        expected = np.zeros((HEIGHT, WIDTH), bool)
        expected[23, :2] = PATCH[0, 1:]
    assert np.array_equal(masks[0], expected)


def test_circles_are_round(tmp_path):
    write_frames(tmp_path / "v", ["0.jpg"])
    circle = shape("ball", [[15, 12], [15 + 9 * math.cos(1), 12 + 9 * math.sin(1)]], "circle", 0)
    label_file(tmp_path / "v" / "0.json", [circle])
    ((_, masks),) = named_tracks(convert_labelme(tmp_path).content)
    assert not (circle_mask(15, 12, 8) & ~masks[0]).any()
    assert not (masks[0] & ~circle_mask(15, 12, 11)).any()


def test_group_ids_of_other_programs_are_numbers(walk):
    expected = convert_labelme(walk).content
    for name, group in (("8.json", 1.0), ("10.json", "1")):
        path = walk / "walk" / name
        content = json.loads(path.read_text())
        for item in content["shapes"]:
            item["group_id"] = group
        write_json(path, content)
    assert convert_labelme(walk).content == expected


def test_rectangles_of_x_anylabeling_have_four_corners(tmp_path):
    """Its rectangles, also rotated ones, are in the file by their corners."""
    write_frames(tmp_path / "v", ["0.jpg"])
    corners = [[4, 2], [9, 2], [9, 7], [4, 7]]
    tilted = [[16, 4], [24, 12], [20, 16], [12, 8]]
    shapes = [
        shape("cow", corners, "rectangle", 0),
        shape("cow", tilted, "rotation", 1),
        shape("cow", tilted, "polygon", 2),
    ]
    label_file(tmp_path / "v" / "0.json", shapes)
    (_, upright), (_, rotated), (_, drawn) = named_tracks(convert_labelme(tmp_path).content)
    assert np.array_equal(upright[0], box_mask(4, 2, 6, 6))
    assert np.array_equal(rotated, drawn) and 60 < rotated.sum() < 100  # 8 * sqrt(2) by 4 * sqrt(2)


def test_shapes_without_group_id_are_refused_or_joined_by_label(walk):
    lone = shape("owl", rectangle(0, 0, 3, 3), "rectangle")
    for name in ("8.json", "9.json"):
        label_file(walk / "walk" / name, [lone])
    with pytest.raises(ConversionError, match=r"8\.json: shapes\[0\] \('owl'\) has no group_id"):
        convert_labelme(walk)
    content = convert_labelme(walk, ungrouped="label").content
    owl = named_tracks(content)[0]
    assert owl[0][1] == "owl" and owl[1].any(axis=(1, 2)).tolist() == [True, True, False]


def test_numbers_in_labels_are_those_of_objects(walk):
    for name, labels in (("8.json", ("cow-1", "cow-2")), ("9.json", ("cow-2", "sky"))):
        shapes = [
            shape(label, rectangle(9 * i, 0, 9 * i + 3, 3), "rectangle")
            for i, label in enumerate(labels)
        ]
        label_file(walk / "walk" / name, shapes)
    (walk / "walk" / "10.json").unlink()
    with pytest.raises(
        ConversionError,
        match="--ungrouped number, which takes 'cow-1' for object 1 of the class 'cow'$",
    ):
        convert_labelme(walk)
    (note,) = convert_labelme(walk, ungrouped="label").notes
    assert "cow-1, cow-2 became classes" in note and "--ungrouped number" in note
    conversion = convert_labelme(walk, ungrouped="number")
    assert not conversion.notes
    tracks = [(name[1], masks.any(axis=(1, 2)).tolist()) for name, masks in
              named_tracks(conversion.content)]  # fmt: skip
    assert tracks == [("cow", [True, False]), ("cow", [True, True]), ("sky", [False, True])]


def test_its_own_output_is_passed_over(walk):
    out = walk / "walk" / "train.json"
    expected = convert_labelme(walk).content
    for path in (out, walk / "train.json"):
        convert_labelme(walk).write(path)
    conversion = convert_labelme(walk)
    assert conversion.content == expected
    assert conversion.left_out == {"JSON files of datasets, not of LabelMe": 2}


def test_files_in_another_encoding(walk):
    path = walk / "walk" / "9.json"
    cow = shape("奶牛", rectangle(0, 0, 3, 3), "rectangle", 1)
    content = dict(imagePath="9.jpg", shapes=[cow])
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode("gbk"))
    with pytest.raises(ConversionError, match=r"9\.json is not text in utf-8.*--encoding gbk"):
        convert_labelme(walk)
    categories = convert_labelme(walk, encoding="gbk").content["categories"]
    assert [c["name"] for c in categories] == ["cat", "dog", "奶牛"]


def test_file_names_with_backslashes(walk, usable):
    (walk / "walk" / "8.jpg").rename(walk / "walk" / r"a\8.jpg")
    content = json.loads((walk / "walk" / "8.json").read_text())
    write_json(walk / "walk" / "8.json", dict(content, imagePath=r"a\8.jpg"))
    conversion = convert_labelme(walk)
    assert conversion.content["videos"][0]["file_names"][-1] == r"walk/a\8.jpg"
    usable(conversion, walk)


def test_images_without_a_file_are_dropped_or_empty(walk):
    (walk / "walk" / "9.json").unlink()
    conversion = convert_labelme(walk)
    assert conversion.content["videos"][0]["file_names"] == ["walk/8.jpg", "walk/10.jpg"]
    assert conversion.left_out == {"images without a LabelMe file": 1}
    assert convert_labelme(walk, unlabelled="empty").content["videos"][0]["length"] == 3


def test_labels_apart_from_the_images_and_windows_paths(tmp_path, usable):
    write_frames(tmp_path / "frames" / "v", ["0.jpg"])
    cat = shape("cat", rectangle(2, 3, 6, 9), "rectangle", 1)
    label_file(tmp_path / "labels" / "v" / "0.json", [cat], r"..\..\frames\v\0.jpg")
    conversion = convert_labelme(tmp_path / "labels", tmp_path / "frames")
    assert conversion.content["videos"][0]["file_names"] == ["v/0.jpg"]
    usable(conversion, tmp_path / "frames")
    with pytest.raises(ConversionError, match="is not in the folder of images"):
        convert_labelme(tmp_path / "labels")


def test_class_order_and_what_is_no_object(walk):
    label_file(
        walk / "walk" / "9.json",
        [
            shape("cat", [[1, 1], [5, 5]], "line"),
            shape("cat", [[1, 1]], "point"),
            shape("_background_", rectangle(0, 0, 3, 3), "rectangle"),
        ],
    )
    conversion = convert_labelme(walk, classes=["dog", "cat"])
    assert [c["name"] for c in conversion.content["categories"]] == ["dog", "cat"]
    assert conversion.left_out == {
        "shapes of type line, which have no area": 1,
        "shapes of type point, which have no area": 1,
        "shapes labelled _background_": 1,
    }
    with pytest.raises(ConversionError, match="class 'cat' is not among the classes dog"):
        convert_labelme(walk, classes=["dog"])


BOX = rectangle(2, 3, 6, 9)


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (shape("cat", [[1, 2], [3, 4]], "polygon", 1), "a polygon needs three points, got 2"),
        (
            shape("cat", [[1, 2]], "rectangle", 1),
            "a shape of type rectangle has 2 or 4 points, got 1",
        ),
        (shape("cat", [[1, 2, 3]] * 3, "polygon", 1), r"points must be a list of \[x, y\]"),
        (shape("cat", [["a", 2]] * 3, "polygon", 1), r"shapes\[0\] \('cat'\): "),
        (shape("cat", [[1e9, 2]] * 3, "polygon", 1), "coordinates must be"),
        (shape(" ", BOX, "rectangle", 1), r"shapes\[0\] \(' '\): the label is empty"),
        (shape("cat", BOX, "blob", 1), "unknown shape_type 'blob'"),
        (shape("cat", BOX, "rectangle", "x"), "group_id must be a whole number, got 'x'"),
        (shape("cat", BOX, "rectangle", 1.5), "group_id must be a whole number, got 1.5"),
        (shape("ball", [[5, 5], [-9e5, -9e5]], "circle", 1), "coordinates must be"),
        (shape("ball", [[5, 5], [-4000, 5]], "circle", 1), "outline is longer than 2800"),
        (shape("cat", [[0, 0], [30, 20]] * 2000, "polygon", 1), "outline is longer than 2800"),
        (shape("cat", BOX, "mask", 1), "a shape of type mask needs 'mask'"),
        (shape("cat", BOX, "mask", 1, mask="AAAA"), "'mask' is no PNG"),
        (dict(points=[], shape_type="polygon"), r"shapes\[0\]: key 'label' is missing"),
        ("cat", r"shapes\[0\]: expected an object, got a str"),
    ],
)
def test_faulty_shapes_are_named(walk, faulty, message):
    label_file(walk / "walk" / "9.json", [faulty])
    with pytest.raises(ConversionError, match=message) as error:
        convert_labelme(walk)
    assert "9.json" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(imagePath="gone.jpg"), r"9\.json: image .*gone\.jpg' does not exist"),
        (dict(imagePath="8.jpg"), r"9\.json: .*8\.jpg is labelled in .*8\.json too"),
        (
            dict(imageHeight=480),
            r"9\.json: imageHeight and imageWidth are 480 and 32, but its image",
        ),
        (dict(shapes=None), r"9\.json: 'shapes' must be list"),
    ],
)
def test_faulty_files_are_named(walk, change, message):
    label_file(walk / "walk" / "9.json", [], change=change)
    with pytest.raises(ConversionError, match=message):
        convert_labelme(walk)


def test_files_of_another_kind_and_empty_folders(walk, tmp_path):
    (walk / "walk" / "9.json").write_text("")
    with pytest.raises(FormatError, match=r"9\.json: not valid JSON"):
        convert_labelme(walk)
    (walk / "walk" / "9.json").write_text('{"images": []}')
    with pytest.raises(ConversionError, match=r"9\.json: key 'imagePath' is missing"):
        convert_labelme(walk)
    with pytest.raises(ConversionError, match="no video with annotations"):
        convert_labelme(tmp_path / "nothing")
    label_file(walk / "walk" / "9.json", [])
    label_file(walk / "walk" / "8.json", [shape("cat", [[1, 1], [5, 5]], "line")])
    (walk / "walk" / "10.json").unlink()
    with pytest.raises(ConversionError, match="there is no object .*: 1 x shapes of type line"):
        convert_labelme(walk)
    with pytest.raises(ValueError, match="unknown choice"):
        convert_labelme(walk, ungrouped="guess")


def test_frames_of_two_sizes_are_refused(walk):
    write_frames(walk / "walk", ["10.jpg"], height=30)
    with pytest.raises(ConversionError, match=r"10\.jpg is 32 x 30 pixels, but 8\.jpg"):
        convert_labelme(walk)
