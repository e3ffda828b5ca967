"""Inputs with something odd in them: a valid dataset or an error in one line, in bounded memory."""

import copy
import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmvis_plugin.datasets.converters import (
    cocovid_to_ytvis,
    convert_cvat,
    convert_labelme,
    convert_mots,
    convert_vos,
    ytvis_to_cocovid,
)
from mmvis_plugin.ytvis.problems import FormatError
from mmvis_plugin.ytvis.reader import read_ytvis

from . import test_cvat, test_labelme, test_mots, test_vos
from .cases import write_frames, write_json
from .test_cocovid import usual

MAX_MEMORY = 50e6  # bytes, of inputs of some KB
MAX_LETTERS = 1000

odd_values = st.one_of(
    st.sampled_from([None, True, -1, 0, 1.5, 7.0, "7", "", "x" * 5000, [], {}, [[]], 10**30]),
    st.sampled_from([float("nan"), float("inf"), 1e308, "\ud800", "a\nb", "../..", "b'x'", 2**63]),
    st.sampled_from([[1e6, -1e6] * 500, [0.5, 30] * 2000, [[9e5, -9e5]] * 4]),
)


def paths(value, path=()):
    """The path of every value in a JSON."""
    yield path
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(item, (*path, key))


def replaced(content, path, value):
    if not path:
        return value
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


def labelme_content():
    corners = [[1, 1], [9, 1], [9, 9], [1, 9]]
    kinds = ("polygon", "rectangle", "rotation")
    shapes = [test_labelme.shape("cat", corners, kind, i) for i, kind in enumerate(kinds)]
    shapes.append(test_labelme.shape("ball", corners[:2], "circle", 1))
    return dict(imagePath="0.jpg", imageHeight=24, imageWidth=32, shapes=shapes)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Format to a JSON's content, its path, and what converts it."""
    root = tmp_path_factory.mktemp("inputs")
    write_frames(root / "labelme", ["0.jpg"])
    images, masks, meta = test_vos.youtube_vos(root / "vos")
    official = write_json(root / "official.json", usual())
    there = ytvis_to_cocovid(official).content
    return dict(
        labelme=(
            labelme_content(),
            root / "labelme" / "0.json",
            lambda path: convert_labelme(path.parent, ungrouped="number"),
        ),
        cocovid=(there, root / "cocovid.json", cocovid_to_ytvis),
        official=(usual(), official, ytvis_to_cocovid),
        vos=(json.loads(meta.read_text()), meta, lambda path: convert_vos(images, masks, path)),
    )


def check(convert, path):
    """Convert a file within the bounds of memory; an error is one line that names the file."""
    tracemalloc.start()
    try:
        content = convert(path).content
    except FormatError as error:
        content = None
        assert len(str(error)) < MAX_LETTERS + len(str(path)) and "\n" not in str(error)
        names = (path.name, "no object", "converted from", "video ")
        assert any(name in str(error) for name in names)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MAX_MEMORY
    if content is not None and "images" not in content:
        read_ytvis(json.loads(json.dumps(content)))


@pytest.mark.parametrize("name", ["labelme", "cocovid", "official", "vos"])
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_odd_values_in_json(inputs, name, data):
    content, path, convert = inputs[name]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(list(paths(content))))
        content = replaced(content, place, data.draw(odd_values))
    path.write_text(json.dumps(content))
    check(convert, path)


XML = test_cvat.xml(
    test_cvat.track(
        test_cvat.box(0, 2, 3, 10, 9),
        test_cvat.box(2, 6, 3, 14, 9, rotation=9),
        test_cvat.polygon(3, test_cvat.SQUARE, outside=1),
    ),
    test_cvat.track(
        test_cvat.mask(1, [1, 2, 1, 4], 5, 6, 4, 2),
        test_cvat.mask(2, [8], 5, 6, 4, 2, outside=1),
        id=1,
    ),
    test_cvat.track(*(test_cvat.polygon(t, test_cvat.SQUARE) for t in (4, 5)), id=2),
)
TEXTS = dict(cvat=XML.encode(), mots=test_mots.txt().encode())
insertions = st.sampled_from(
    [b"", b"9" * 20, b"9" * 5000, b"-1", b"1e999", b"nan", b"<", b">", b'"', b";", b",", b"\xff"]
    + [b"<box/>", b"\n", b" ", b"b'", b"&x;", b"<x>" * 5000]
)


@pytest.mark.parametrize("name", TEXTS)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_texts(tmp_path, name, data):
    write_frames(tmp_path / "images" / "clip", [f"{t:06d}.png" for t in range(6)])
    text = TEXTS[name]
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(text)))
        removed = data.draw(st.integers(0, 9))
        text = text[:position] + data.draw(insertions) + text[position + removed :]
    path = tmp_path / ("clip.xml" if name == "cvat" else "txt/clip.txt")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    if name == "cvat":
        check(lambda path: convert_cvat([path], tmp_path / "images"), path)
    else:
        check(lambda path: convert_mots(tmp_path / "images", path.parent), path)
