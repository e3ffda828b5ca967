import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from mmvis_plugin.datasets.converters import ConversionError, convert_vos

from .cases import HEIGHT, WIDTH, box_mask, named_tracks, write_frames, write_json

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [224, 224, 192] * 252


def write_png(path, id_map):
    """An indexed PNG as DAVIS and YouTube-VOS have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(id_map, np.uint8), mode="P")
    picture.putpalette(PALETTE)
    picture.save(path)


def id_map(*boxes):
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for id_, box in boxes:
        ids[box_mask(*box)] = id_
    return ids


def davis(root):
    """Two videos; in the first object 2 comes late and void surrounds object 1."""
    first = [
        id_map((255, (1, 1, 12, 12)), (1, (2, 2, 10, 10))),
        id_map((1, (3, 2, 10, 10)), (2, (20, 5, 6, 6))),
        id_map((2, (21, 5, 6, 6))),
    ]
    for t, ids in enumerate(first):
        write_png(root / "Annotations" / "bear" / f"{t:05d}.png", ids)
    write_png(root / "Annotations" / "camel" / "00000.png", id_map((3, (4, 4, 9, 9))))
    write_frames(root / "JPEGImages" / "bear", [f"{t:05d}.jpg" for t in range(3)])
    write_frames(root / "JPEGImages" / "camel", ["00000.jpg"])
    return root / "JPEGImages", root / "Annotations"


def youtube_vos(root):
    """Frames 0 to 10 with a PNG for every fifth."""
    for t in (0, 5, 10):
        boxes = [(1, (2 + t, 2, 8, 8))] + [(2, (20, 12, 8, 8))] * (t == 5)
        write_png(root / "Annotations" / "003234408d" / f"{t:05d}.png", id_map(*boxes))
    write_frames(root / "JPEGImages" / "003234408d", [f"{t:05d}.jpg" for t in range(11)])
    objects = {
        "1": dict(category="penguin", frames=["00000", "00005", "00010"]),
        "2": dict(category="person", frames=["00005"]),
    }
    meta = dict(videos={"003234408d": dict(objects=objects)})
    return root / "JPEGImages", root / "Annotations", write_json(root / "meta.json", meta)


def test_davis_objects_are_of_one_class_and_void_is_background(tmp_path, usable):
    images, masks = davis(tmp_path)
    conversion = convert_vos(images, masks)
    content = conversion.content
    assert [c["name"] for c in content["categories"]] == ["object"]
    assert [v["file_names"][0] for v in content["videos"]] == ["bear/00000.jpg", "camel/00000.jpg"]
    (one, first), (two, second), (three, third) = named_tracks(content)
    assert one == two == ("bear", "object", 0) and three == ("camel", "object", 0)
    expected = [box_mask(2, 2, 10, 10), box_mask(3, 2, 10, 10), box_mask(0, 0, 0, 0)]
    assert np.array_equal(first, expected)
    assert not second[0].any() and np.array_equal(second[2], box_mask(21, 5, 6, 6))
    assert np.array_equal(third[0], box_mask(4, 4, 9, 9))
    assert conversion.left_out == {"frames with void pixels, which become background": 1}
    usable(conversion, images)


def test_youtube_vos_keeps_the_frames_with_a_png_and_names_classes(tmp_path, usable):
    images, masks, meta = youtube_vos(tmp_path)
    conversion = convert_vos(images, masks, meta)
    names = [f"003234408d/{t:05d}.jpg" for t in (0, 5, 10)]
    assert conversion.content["videos"][0]["file_names"] == names
    (penguin, first), (person, second) = named_tracks(conversion.content)
    assert penguin[1] == "penguin" and person[1] == "person"
    assert np.array_equal(first, [box_mask(2 + t, 2, 8, 8) for t in (0, 5, 10)])
    assert second.any(axis=(1, 2)).tolist() == [False, True, False]
    assert conversion.left_out == {"frames without a PNG": 8}
    usable(conversion, images)


def test_given_classes_keep_their_category_ids(tmp_path):
    images, masks, meta = youtube_vos(tmp_path)
    classes = ["zebra", "person", "penguin"]
    content = convert_vos(images, masks, meta, classes=classes).content
    ids = {category["name"]: category["id"] for category in content["categories"]}
    assert ids == {"zebra": 1, "person": 2, "penguin": 3}
    assert [annotation["category_id"] for annotation in content["annotations"]] == [3, 2]
    with pytest.raises(
        ConversionError, match="class 'penguin' is not among the classes zebra, person"
    ):
        convert_vos(images, masks, meta, classes=classes[:2])


def test_chosen_videos_and_class_name(tmp_path):
    images, masks = davis(tmp_path)
    content = convert_vos(images, masks, videos=["camel"], class_name="thing").content
    assert [name for name, _ in named_tracks(content)] == [("camel", "thing", 0)]


@settings(deadline=None, max_examples=30)
@given(
    arrays(
        np.uint8, st.tuples(st.integers(1, 3), st.just(9), st.just(7)), elements=st.integers(0, 3)
    )
)
def test_masks_are_those_of_the_pngs(tmp_path_factory, maps):
    root = tmp_path_factory.mktemp("vos")
    for t, ids in enumerate(maps):
        write_png(root / "masks" / "v" / f"{t}.png", ids)
    write_frames(root / "images" / "v", [f"{t}.png" for t in range(len(maps))], 9, 7)
    if not maps.any():
        with pytest.raises(ConversionError, match="there is no object"):
            convert_vos(root / "images", root / "masks")
        return
    tracks = named_tracks(convert_vos(root / "images", root / "masks").content)
    ids = [id_ for id_ in np.unique(maps) if id_]
    assert len(tracks) == len(ids)
    for id_, (_, masks) in zip(ids, tracks, strict=True):
        assert np.array_equal(masks, maps == id_)


def save_rgb(root):
    path = root / "Annotations/bear/00001.png"
    Image.open(path).convert("RGB").save(path)


def save_grey(root):
    for path in (root / "Annotations/bear").iterdir():
        Image.fromarray(id_map((255, (2, 2, 5, 5)))).save(path)


DAVIS_FAULTS = {
    r"bear/00001\.png is not indexed: .* \(mode RGB\)": save_rgb,
    r"bear/0000\d\.png is grey with no value but 0 and 255.*DAVIS 2016": save_grey,
    r"bear/00002\.png is 8 x 6 pixels, its frame 32 x 24": lambda root: write_png(
        root / "Annotations/bear/00002.png", np.zeros((6, 8))
    ),
    r"bear/00007\.png: there is no frame of this name": lambda root: write_png(
        root / "Annotations/bear/00007.png", id_map()
    ),
    r"bear/00001\.png cannot be read as an image": lambda root: (
        root / "Annotations/bear/00001.png"
    ).write_bytes(b"\x89PNG\r\n\x1a\n"),
    r"camel has no PNG": lambda root: (root / "Annotations/camel/00000.png").unlink(),
    r"folder of frames .*zebra does not exist": lambda root: write_png(
        root / "Annotations/zebra/00000.png", id_map()
    ),
}


@pytest.mark.parametrize("message", DAVIS_FAULTS)
def test_unusable_pngs_are_named(tmp_path, message):
    images, masks = davis(tmp_path)
    DAVIS_FAULTS[message](tmp_path)
    with pytest.raises(ConversionError, match=message):
        convert_vos(images, masks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["videos"].clear(), "video 003234408d: object 1 is drawn .* not listed"),
        (
            lambda m: m["videos"]["003234408d"]["objects"].pop("2"),
            "object 2 is drawn in the PNGs but is not listed",
        ),
        (
            lambda m: m["videos"]["003234408d"]["objects"]["1"].pop("category"),
            "object 1 has no category, as in the validation set",
        ),
        (lambda m: m.pop("videos"), "key 'videos' is missing"),
        (lambda m: m["videos"].update({"003234408d": []}), "expected an object, got a list"),
    ],
)
def test_meta_that_does_not_fit_is_named(tmp_path, change, message):
    images, masks, path = youtube_vos(tmp_path)
    meta = json.loads(path.read_text())
    change(meta)
    with pytest.raises(ConversionError, match=message) as error:
        convert_vos(images, masks, write_json(path, meta))
    assert "meta.json" in str(error.value)


def test_missing_and_empty_folders_are_named(tmp_path):
    images, masks = davis(tmp_path)
    with pytest.raises(ConversionError, match="folder of masks .*gone does not exist"):
        convert_vos(images, masks, videos=["gone"])
    with pytest.raises(ConversionError, match="folder .*nowhere does not exist"):
        convert_vos(images, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConversionError, match="no video with annotations"):
        convert_vos(images, tmp_path / "empty")


def test_undrawn_objects_and_videos_are_told(tmp_path):
    images, masks, path = youtube_vos(tmp_path)
    meta = json.loads(path.read_text())
    meta["videos"]["003234408d"]["objects"]["9"] = dict(category="person", frames=[])
    conversion = convert_vos(images, masks, write_json(path, meta))
    assert conversion.left_out["objects of meta.json that are in no PNG"] == 1
    write_png(masks / "blank" / "0.png", id_map())
    write_frames(images / "blank", ["0.jpg"])
    assert convert_vos(images, masks).notes == ["no object is drawn in video blank"]
