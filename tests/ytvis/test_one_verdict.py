"""Dataset, metric, checker, converter and splitting agree on every file, in the same words."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scripts import load_script
from ytvis_content import box_mask, clean_content, compressed

from mmvis_plugin.datasets import YTVISDataset
from mmvis_plugin.datasets.converters import ytvis_to_cocovid
from mmvis_plugin.evaluation import load_ground_truth
from mmvis_plugin.ytvis.checking import check_ytvis
from mmvis_plugin.ytvis.problems import FormatError
from mmvis_plugin.ytvis.reader import read_ytvis

splitter = load_script("tools/dataset_converters/split_ytvis.py")
thinner = load_script("tools/dataset_converters/lower_frame_rate.py")

READERS = dict(
    dataset=lambda path: YTVISDataset(ann_file=str(path), check_frames="none", test_mode=True),
    metric=load_ground_truth,
    converter=ytvis_to_cocovid,
    splitter=lambda path: read_ytvis(path, keep_lists=True),
)


def verdicts(path):
    """What each part says of a file: None, or why it refuses it."""
    found = {}
    for name, read in READERS.items():
        try:
            read(path)
            found[name] = None
        except FormatError as error:
            # A file without objects is right, but the converter has nothing to do.
            nothing = str(error).startswith(f"{path}: there is no object to convert")
            found[name] = None if nothing and name == "converter" else str(error)
    report = check_ytvis(path)
    errors = [p for p in report.problems if p.level == "error"]
    found["checker"] = f"{path}: {errors[0].sentence}" if errors else None
    json.dumps(report.as_dict())
    assert report.summary()
    return found


def the_verdict(path):
    found = verdicts(path)
    assert len(set(found.values())) == 1, found
    verdict = found["dataset"]
    assert verdict is None or (verdict.startswith(f"{path}: ") and "\n" not in verdict)
    return verdict and verdict.removeprefix(f"{path}: ")


# --- single changes ---------------------------------------------------------------------------

BOX = compressed(box_mask(4, 5, 6, 7))


def put(*path_and_value):
    *path, key, value = path_and_value

    def change(content):
        for step in path:
            content = content[step]
        content[key] = value

    return change


def drop(*path):
    def change(content):
        for step in path[:-1]:
            content = content[step]
        del content[path[-1]]

    return change


def video(key, value):
    return put("videos", 0, key, value)


def track(key, value):
    return put("annotations", 0, key, value)


def mask(value):
    return put("annotations", 0, "segmentations", 2, value)


def absent(**values):
    """Change the frame in which the first object is absent."""

    def change(content):
        for key, value in values.items():
            content["annotations"][0][key][1] = value

    return change


def box(value):
    return put("annotations", 0, "bboxes", 2, value)


def area(value):
    return put("annotations", 0, "areas", 2, value)


ORDER = [f"v7/{name}.jpg" for name in (1, 10, 2, 3)]
AT = "video 7: annotation 1: frame 2: "
MASK = f"{AT}the segmentation: "
LONG = "9" * 4000
NAN, INF = float("nan"), float("inf")

REFUSED = {
    # the file
    "no videos key": (drop("videos"), "'videos' must be a list that is not empty, which is miss"),
    "no categories key": (drop("categories"), "'categories' must be a list that is not empty"),
    "no videos": (put("videos", []), "'videos' must be a list that is not empty, got []"),
    "no categories": (put("categories", []), "'categories' must be a list that is not empty, got"),
    "videos an object": (put("videos", {}), "'videos' must be a list that is not empty, got {}"),
    "annotations an object": (put("annotations", {}), "'annotations' must be a list, null or m"),
    "annotations false": (put("annotations", False), "'annotations' must be a list, null or mis"),
    "NaN in what is not read": (put("info", NAN), "JSON has no NaN: write null, or leave the key"),
    "infinity in a video": (video("fps", INF), "JSON has no Infinity"),
    # categories
    "category a text": (put("categories", 0, "cat"), "categories[0] must be an object, got 'cat'"),
    "category without name": (drop("categories", 0, "name"), "categories[0] has no 'name'"),
    "category without id": (drop("categories", 0, "id"), "categories[0] has no 'id'"),
    "category name null": (put("categories", 0, "name", None), "categories[0]: 'name' must be a t"),
    "category name empty": (put("categories", 0, "name", ""), "categories[0]: 'name' must be a te"),
    "category name half a character": (
        put("categories", 0, "name", "\ud800"),
        r"categories[0]: 'name' must be a text, got '\ud800'",
    ),
    "category id a list": (put("categories", 0, "id", [1]), "categories[0]: 'id' must be a whole"),
    "category id null": (put("categories", 0, "id", None), "categories[0]: 'id' must be a whole n"),
    "category id true": (put("categories", 0, "id", True), "categories[0]: 'id' must be a whole n"),
    "category id a float": (
        put("categories", 0, "id", 1.0),
        "categories[0]: 'id' must be a whole number or a text, got 1.0: write 1",
    ),
    "category id twice": (put("categories", 1, "id", 1), "categories[1]: the id 1 is used by two"),
    "category name twice": (put("categories", 1, "name", "cat"), "categories[1]: the name 'cat' i"),
    # videos
    "video a text": (put("videos", 0, "v"), "videos[0] must be an object, got 'v'"),
    "video without id": (drop("videos", 0, "id"), "videos[0] has no 'id'"),
    "video id a list": (video("id", [7]), "videos[0]: 'id' must be a whole number or a text, got"),
    "video id beyond 64 bits": (video("id", 2**63), "videos[0]: 'id' must be a whole number or a"),
    "video id twice": (put("videos", 1, "id", 7), "video 7: videos[1]: this id is used by two vid"),
    "video without file names": (drop("videos", 0, "file_names"), "video 7: the video has no 'fil"),
    "no file names": (video("file_names", []), "video 7: 'file_names' must be a list of one or m"),
    "file name a number": (
        video("file_names", [1, "a", "b", "c"]),
        "video 7: 'file_names' must be a list of one or more texts, got [1, 'a', 'b', 'c']",
    ),
    "file name with a null byte": (
        video("file_names", ["a\0", "b", "c", "d"]),
        "video 7: 'file_names' must be a list of one or more texts",
    ),
    "without width": (drop("videos", 0, "width"), "video 7: the video has no 'width'"),
    "height 0": (video("height", 0), "video 7: 'height' must be a whole number from 1 to 32767, g"),
    "width a text": (video("width", "32"), "video 7: 'width' must be a whole number from 1 to 327"),
    "width a half": (video("width", 31.5), "video 7: 'width' must be a whole number from 1 to 327"),
    "width true": (video("width", True), "video 7: 'width' must be a whole number from 1 to 32767"),
    "height NaN": (video("height", NAN), "video 7: 'height' must be a whole number from 1 to 3276"),
    "height huge": (video("height", 10**9), "video 7: 'height' must be a whole number from 1 to 3"),
    "length": (video("length", 5), "video 7: 'length' is 5, but there are 4 file_names"),
    "length a text": (video("length", "4"), "video 7: 'length' is '4', but there are 4 file_names"),
    "length null": (video("length", None), "video 7: 'length' is None, but there are 4 file_name"),
    "tags a text": (video("tags", "fast"), "video 7: 'tags' must be a list of texts, got 'fast'"),
    "tags numbers": (video("tags", [1]), "video 7: 'tags' must be a list of texts, got [1]"),
    # annotations
    "annotation null": (put("annotations", 0, None), "annotations[0] must be an object, got None"),
    "annotation without id": (drop("annotations", 0, "id"), "video 7: annotations[0] has no 'id'"),
    "annotation without video_id": (
        drop("annotations", 0, "video_id"),
        "annotation 1: annotations[0] has no 'video_id'",
    ),
    "annotation without category_id": (
        drop("annotations", 0, "category_id"),
        "video 7: annotation 1: annotations[0] has no 'category_id'",
    ),
    "annotation without segmentations": (
        drop("annotations", 0, "segmentations"),
        "video 7: annotation 1: annotations[0] has no 'segmentations'",
    ),
    "annotation id twice": (
        put("annotations", 1, "id", 1),
        "video 7: annotation 1: this id is used by two annotations",
    ),
    "unknown video": (track("video_id", 8), "video 8: annotation 1: there is no video with the v"),
    "video id as text": (
        track("video_id", "7"),
        "video 7: annotation 1: there is no video with the video_id '7', but there is 7: write "
        "ids as numbers",
    ),
    "video id as float": (
        track("video_id", 7.0),
        "annotations[0]: 'video_id' must be a whole number or a text, got 7.0: write 7",
    ),
    "unknown category": (
        track("category_id", 9),
        "video 7: annotation 1: there is no category with the category_id 9",
    ),
    "category id an object": (
        track("category_id", {}),
        "annotations[0]: 'category_id' must be a whole number or a text, got {}",
    ),
    **{
        f"iscrowd {value!r}": (
            track("iscrowd", value),
            f"video 7: annotation 1: 'iscrowd' must be 0, 1, true or false, got {value!r}",
        )
        for value in ("0", "1", 2, -1, 1.0, None, [], {})
    },
    # masks
    "segmentations null": (
        track("segmentations", None),
        "video 7: annotation 1: 'segmentations' must be a list with an entry for each of 4 frames",
    ),
    "one segmentation": (
        track("segmentations", [BOX]),
        "video 7: annotation 1: 'segmentations' must be a list with an entry for each of 4 frames",
    ),
    "mask an empty object": (mask({}), f"{MASK}a mask is null, a list of polygons, or an RLE"),
    "mask 0": (mask(0), f"{MASK}a mask is null, a list of polygons, or an RLE with the keys"),
    "mask false": (mask(False), f"{MASK}a mask is null, a list of polygons, or an RLE with the"),
    "mask an empty text": (mask(""), f"{MASK}a mask is null, a list of polygons, or an RLE with"),
    "mask a text": (mask("x"), f"{MASK}a mask is null, a list of polygons, or an RLE with the"),
    "mask of another size": (
        mask(compressed(box_mask(0, 0, 2, 2, height=32, width=24))),
        f"{MASK}RLE of size [32, 24] in a video of 24 x 32 (height x width)",
    ),
    "size missing": (mask(dict(counts="PPYo0")), f"{MASK}a mask is null, a list of polygons, or"),
    "counts cut off": (
        mask(dict(BOX, counts=BOX["counts"][:-1])),
        f"{MASK}the counts of the RLE are cut off or hold what is not RLE",
    ),
    "counts empty": (mask(dict(BOX, counts="")), f"{MASK}the counts of an RLE must be a non-empt"),
    "counts of another alphabet": (
        mask(dict(BOX, counts="\u00e9~")),
        f"{MASK}the counts of the RLE are cut off or hold what is not RLE",
    ),
    "counts Python's text of bytes": (
        mask(dict(BOX, counts=str(BOX["counts"].encode()))),
        f"{MASK}the counts are Python's text of bytes (b'...'): write counts.decode() instead",
    ),
    "counts of few pixels": (
        mask(dict(BOX, counts=[1, 2])),
        f"{MASK}the RLE describes 3 pixels, not a mask of 24 x 32 pixels",
    ),
    "counts negative": (mask(dict(BOX, counts=[800, -32])), f"{MASK}RLE counts must be a string"),
    "counts whose sum overflows": (
        mask(dict(BOX, counts=[2**63 - 1, 2**63 - 1, 770])),
        f"{MASK}the counts of the RLE are cut off or hold what is not RLE",
    ),
    "counts of many pixels": (
        mask(dict(BOX, counts=[1000])),
        f"{MASK}the RLE describes 1000 pixels, not a mask of 24 x 32 pixels",
    ),
    "counts an empty list": (mask(dict(BOX, counts=[])), f"{MASK}the counts of an RLE must be a"),
    "counts a number": (mask(dict(BOX, counts=7)), f"{MASK}RLE counts must be a string or a list"),
    "polygon of two points": (mask([[1, 2, 3, 4]]), f"{MASK}a polygon must be a flat list x1, y1"),
    "polygon of an odd number": (mask([[1, 2, 3, 4, 5, 6, 7]]), f"{MASK}a polygon must be a flat"),
    "polygon not in a list": (mask([1, 2, 3, 4, 5, 6]), f"{MASK}a polygon must be a flat list x1"),
    "polygon with null": (mask([[1, 2, 3, 4, 5, None]]), f"{MASK}polygon coordinates must be fin"),
    "polygon with NaN": (mask([[1, 2, 3, 4, 5, NAN]]), f"{MASK}polygon coordinates must be finit"),
    "polygon with infinity": (mask([[1, 2, 3, 4, 5, INF]]), f"{MASK}polygon coordinates must be"),
    "polygon with true": (mask([[1, 2, 3, 4, 5, True]]), f"{MASK}polygon coordinates must be fin"),
    "polygon far outside": (mask([[0, 0, 1e9, 0, 0, 1e9]]), f"{MASK}polygon coordinates must be"),
    "outline of 113 million pixels": (
        mask([[-1e6, -1e6, 1e6, 1e6] * 20]),
        f"{MASK}the polygons' outline is longer than 2800 pixels, too long for a frame of 24 x 32",
    ),
    "many outlines": (mask([[0, 0, 400, 0, 0, 400]] * 9), f"{MASK}the polygons' outline is longer"),
    "20,000 polygons": (mask([[0, 0, 1, 0, 0, 1]] * 20000), f"{MASK}a mask has 1 to 10000 polygo"),
    # boxes and areas
    "one box": (track("bboxes", [None]), "video 7: annotation 1: 'bboxes' must be a list with an"),
    "boxes a number": (track("bboxes", 3), "video 7: annotation 1: 'bboxes' must be a list with"),
    "one area": (track("areas", [None]), "video 7: annotation 1: 'areas' must be a list with an"),
    "box of three": (box([4, 5, 6]), f"{AT}the box must be four finite numbers x, y, w, h, w and"),
    "box a number": (box(5), f"{AT}the box must be four finite numbers"),
    "box zero": (box(0), f"{AT}the box must be four finite numbers"),
    "box with NaN": (box([4, 5, 6, NAN]), f"{AT}the box must be four finite numbers"),
    "box with a text": (box([4, 5, 6, "7"]), f"{AT}the box must be four finite numbers"),
    "box beyond all numbers": (box([0, 0, 10**400, 1]), f"{AT}the box must be four finite number"),
    "box with a negative side": (box([4, 5, -6, 7]), f"{AT}the box must be four finite numbers"),
    "area negative": (area(-42), f"{AT}the area must be a finite number of 0 or more, got -42"),
    "area infinite": (area(INF), f"{AT}the area must be a finite number of 0 or more, got inf"),
    "area NaN": (area(NAN), f"{AT}the area must be a finite number of 0 or more, got nan"),
    "area a text": (area("42"), f"{AT}the area must be a finite number of 0 or more, got '42'"),
    "area true": (area(True), f"{AT}the area must be a finite number of 0 or more, got True"),
    "box without mask": (
        absent(bboxes=[4, 5, 6, 7]),
        "video 7: annotation 1: frame 1: there is a box but no mask: [4, 5, 6, 7]",
    ),
    "area without mask": (
        absent(areas=42),
        "video 7: annotation 1: frame 1: there is an area but no mask: 42",
    ),
}

TAKEN = {
    "nothing": lambda content: None,
    "no annotations": put("annotations", None),
    "no annotations key": drop("annotations"),
    "no length": drop("videos", 0, "length"),
    "length 4.0": video("length", 4.0),
    "sizes 24.0 and 32.0": lambda c: c["videos"][0].update(height=24.0, width=32.0),
    "tags": video("tags", ["fast", "dark"]),
    "tags null": video("tags", None),
    "iscrowd true": track("iscrowd", True),
    "iscrowd false": track("iscrowd", False),
    "iscrowd 1": track("iscrowd", 1),
    "iscrowd missing": drop("annotations", 0, "iscrowd"),
    "bboxes missing": drop("annotations", 0, "bboxes"),
    "areas null": track("areas", None),
    "absent in every way": absent(segmentations=[], bboxes=[0, 0, 0.0, 0], areas=0),
    "absent, box an empty list": absent(bboxes=[]),
    "box of another object": box([0, 0, 1, 1]),
    "box without a side": box([4, 5, 0, 7]),
    "area of another object": area(7),
    "mask without a pixel": mask(compressed(box_mask(0, 0, 0, 0))),
    "counts a list": mask(dict(size=[24, 32], counts=[768])),
    "object of no frame": lambda c: c["annotations"][0].update(
        segmentations=[None] * 4, bboxes=None, areas=None
    ),
    "frames out of order": video("file_names", ORDER),
    "frame twice": video("file_names", ["v7/1.jpg"] * 4),
    "backslashes": video("file_names", [rf"v7\{i}.jpg" for i in range(4)]),
    "names that differ in case": put("categories", 1, "name", "Cat "),
    "width of an annotation": track("width", 64),
    "deep nesting in what is not read": put("info", eval("[" * 90 + "]" * 90)),
    "other keys": put("extra", {"a": [1, 2, None]}),
}


def write(tmp_path, change):
    content = clean_content()
    change(content)
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_all_refuse_a_single_change_in_the_same_words(tmp_path, name):
    change, expected = REFUSED[name]
    assert the_verdict(write(tmp_path, change)).startswith(expected)


@pytest.mark.parametrize("name", TAKEN)
def test_all_take_a_single_change(tmp_path, name):
    assert the_verdict(write(tmp_path, TAKEN[name])) is None


def test_the_table_is_long():
    assert len(REFUSED) + len(TAKEN) >= 100


# --- texts that are no such JSON --------------------------------------------------------------

CLEAN = json.dumps(clean_content())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not valid JSON: Expecting value"),
        (CLEAN[:-5], "not valid JSON: "),
        ("[]", "the file must hold an object, got []"),
        ("7", "the file must hold an object, got 7"),
        ("null", "the file must hold an object, got None"),
        ('{"videos": [], "videos": []}', "an object has the key 'videos' twice"),
        (CLEAN.replace('"id": 7', '"id": 7, "id": 9'), "an object has the key 'id' twice"),
        ("[" * 100_000, "not valid JSON: it is nested too deeply"),
        ('{"a":' * 100_000, "not valid JSON: it is nested too deeply"),
        (CLEAN.replace('"id": 7', f'"id": {LONG * 2}'), "not valid JSON: Exceeds the limit"),
        (CLEAN.replace('"id": 7', f'"id": {LONG}'), "videos[0]: 'id' must be a whole number or a"),
        (CLEAN.replace('"height": 24', f'"height": {LONG}', 1), "video 7: 'height' must be a who"),
        (CLEAN.replace('"height": 24', '"height": 1e999', 1), "video 7: 'height' must be a whole"),
        ("\u884c\u4eba".encode("gbk"), "not valid JSON: 'utf-8' codec can't decode"),
        (
            json.dumps(
                dict(
                    clean_content(),
                    categories=[dict(id=i, name=str(i)) for i in range(200_000)],
                )
            ),
            "there are 200000 categories, at most 65536 are expected",
        ),
    ],
)
def test_all_refuse_a_text_in_the_same_words(tmp_path, text, expected):
    path = tmp_path / "train.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert the_verdict(path).startswith(expected)


# --- warnings and what is made of what is read -------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (TAKEN["frames out of order"], "frame_order", "'v7/10.jpg', 'v7/2.jpg'"),
        (TAKEN["backslashes"], "backslash", "write '/'"),
        (TAKEN["names that differ in case"], "similar_names", "'Cat ' and 'cat'"),
        (TAKEN["frame twice"], "repeated_frame", "'v7/1.jpg' is listed 4 times"),
        (TAKEN["mask without a pixel"], "empty_mask", "no pixel"),
    ],
)
def test_what_is_odd_is_a_warning(tmp_path, change, kind, message):
    data = read_ytvis(write(tmp_path, change))
    found = [p for p in data.problems if p.kind == kind]
    assert len(found) == 1 and found[0].level == "warning" and message in found[0].message


def test_all_problems_are_collected_and_the_rest_is_read(tmp_path):
    def change(content):
        for name in ("iscrowd '0'", "category name null", "length"):
            REFUSED[name][0](content)
        del content["annotations"][3]["segmentations"]

    data = read_ytvis(write(tmp_path, change), collect=True)
    assert [(p.kind, p.video, p.annotation) for p in data.problems] == [
        ("schema", None, None),
        ("length", 7, None),
        ("schema", 7, 1),
        ("schema", 9, 4),
    ]
    assert list(data.videos) == [9, 11] and [t.id for t in data.tracks] == [5]


def test_a_crowd_is_one_however_it_is_written(tmp_path):
    for value, expected in ((1, True), (True, True), (0, False), (False, False)):
        path = write(tmp_path, track("iscrowd", value))
        assert read_ytvis(path).tracks[0].crowd is expected
        (crowd,) = {t.crowd for t in load_ground_truth(path).tracks[7, 2]}
        assert crowd is expected


def test_content_is_as_it_is_in_the_file(tmp_path):
    counts = dict(size=[24, 32], counts=[768])
    path = write(tmp_path, mask(counts))
    content = json.loads(path.read_text())
    assert read_ytvis(path, keep_lists=True).content == content
    before = copy.deepcopy(content)
    read_ytvis(content)
    assert content == before


def test_splitting_and_thinning_stop_with_one_line(tmp_path, monkeypatch):
    path = write(tmp_path, REFUSED["iscrowd '0'"][0])
    expected = f"error: {path}: video 7: annotation 1: 'iscrowd' must be"
    with pytest.raises(SystemExit, match=f"^{expected}"):
        splitter.main([str(path)])
    monkeypatch.setattr("sys.argv", ["x", str(path), "--stride", "2"])
    with pytest.raises(SystemExit, match=f"^{expected}"):
        thinner.main()
    assert [p.name for p in Path(tmp_path).iterdir()] == ["train.json"]


# --- any changes ------------------------------------------------------------------------------

odd_value = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-50, 50),
    st.sampled_from([10**400, float("nan"), float("inf"), 0.5, "", "x", "0" * 50]),
    st.lists(st.integers(-5, 40), max_size=8),
    st.lists(st.lists(st.integers(-5, 40), max_size=8), max_size=3),
    st.fixed_dictionaries(dict(size=st.just([24, 32]), counts=st.text("05:?o ", max_size=9))),
    st.fixed_dictionaries(
        dict(size=st.just([24, 32]), counts=st.lists(st.integers(-1, 800), max_size=4))
    ),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@st.composite
def damaged_content(draw):
    """The clean dataset with one to three values, anywhere in it, replaced or removed."""
    content = clean_content()
    for _ in range(draw(st.integers(1, 3))):
        place, key = None, None
        value = content
        while isinstance(value, (dict, list)) and value and (place is None or draw(st.booleans())):
            place = value
            keys = sorted(value) if isinstance(value, dict) else range(len(value))
            key = draw(st.sampled_from(list(keys)))
            value = value[key]
        if place is None:
            continue
        if draw(st.booleans()):
            place[key] = copy.deepcopy(draw(odd_value))
        else:
            del place[key]
    return content


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=damaged_content())
@example(content=dict(clean_content(), annotations=[]))
def test_all_agree_on_any_changes(tmp_path, content):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    the_verdict(path)
