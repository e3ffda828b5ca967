"""Large JSONs, whose text is looked through before it is parsed."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmvis_plugin.ytvis import json_file
from mmvis_plugin.ytvis.json_file import parse_json
from mmvis_plugin.ytvis.json_loops import look_through
from mmvis_plugin.ytvis.problems import FormatError

texts = st.text(st.sampled_from('ab"\\:{}[], \u00e9'), max_size=20)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(texts, inner), max_size=4),
    max_leaves=20,
)


def written(value, space):
    """JSON in which a list of pairs is an object, whose keys may be repeated."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        pairs = [
            f"{json.dumps(k, ensure_ascii=False)}{space}:{space}{written(v, space)}"
            for k, v in value
        ]
        return "{" + f",{space}".join(pairs) + "}"
    if isinstance(value, list):
        return f"[{space}" + ",".join(written(v, space) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def has_repeated_key(text):
    found = []
    json.loads(text, object_pairs_hook=lambda pairs: found.append(len(pairs) > len(dict(pairs))))
    return any(found)


@settings(deadline=None, max_examples=300)
@given(values, st.sampled_from(["", " ", "\n\t"]))
@example([("a", [("a", 1), ("b", 2)]), ("b", [("a", 1)]), ("a", 3)], "")
@example([("counts", "\\" * 15), ("b", '\\"'), ("b", 1)], " ")
def test_no_repeated_key_is_overlooked(value, space):
    text = written(value, space)
    found, _ = look_through(text.encode())
    assert found or not has_repeated_key(text)


@pytest.mark.parametrize("space", ["", " "])
def test_usual_files_need_no_second_look(space):
    mask = [("size", [3, 4]), ("counts", "04`\\1" * 30)]
    tracks = [[("id", n), ("segmentations", [mask, None, mask])] for n in range(300)]
    assert look_through(written([("annotations", tracks)], space).encode()) == (False, False)
    tracks[7][1][1][2] = [("size", [3, 4]), ("counts", [3, 4, 5])]
    assert look_through(written([("annotations", tracks)], space).encode()) == (False, True)
    tracks[200].append(("id", 5))
    assert look_through(written([("annotations", tracks)], space).encode())[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le"])
def test_a_key_twice_is_found_in_a_large_file_of_any_encoding(monkeypatch, encoding):
    monkeypatch.setattr(json_file, "_LARGE", 10)
    text = '{"videos": [{"id": 1, "\u2222": 2, "id": 3}]}'
    with pytest.raises(FormatError, match="x: an object has the key 'id' twice"):
        parse_json(text.encode(encoding), "x")


def test_deep_and_cut_off_texts_are_left_to_the_parser():
    assert look_through(b'{"a":' * 100)[0]
    for text in (b"}", b'"', b'"a\\', b'{"a', b'{"a"', b'{"a":', b'{"a": "b\\'):
        assert isinstance(look_through(text)[0], bool)
