import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as mask_utils
from ytvis_content import HEIGHT, WIDTH, box_mask, compressed, uncompressed

from mmvis_plugin.ytvis import rle as rle_module
from mmvis_plugin.ytvis.masks import compress_lists, parse_counts, to_rle
from mmvis_plugin.ytvis.rle import (
    RLEError,
    compress_runs,
    decode_runs,
    encode_masks,
    intersections,
    mask_areas,
    rle_pixels,
)

masks = st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
    lambda size: arrays(np.uint8, size, elements=st.integers(0, 1))
)
small_masks = arrays(np.uint8, (5, 6), elements=st.integers(0, 1))


def box_polygons(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


# --- parsing ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(masks)
def test_every_form_of_rle_becomes_the_same_text(mask):
    expected = compressed(mask)
    as_bytes = dict(expected, counts=expected["counts"].encode())
    for form in (expected, as_bytes, uncompressed(mask), dict(expected, size=mask.shape)):
        assert to_rle(form, *mask.shape) == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=9))  # pycocotools overflows above
def test_lengths_are_compressed_as_pycocotools_does(runs):
    expected = mask_utils.frPyObjects(dict(size=[1, 1], counts=runs), 1, 1)
    assert compress_runs(np.array(runs)) == expected["counts"].decode()


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 15), st.integers(1, 9), st.integers(1, 8))
def test_polygon_becomes_its_pixels(x, y, w, h):
    rle = to_rle(box_polygons(x, y, w, h), HEIGHT, WIDTH)
    assert np.array_equal(mask_utils.decode(rle), box_mask(x, y, w, h))


BOX = compressed(box_mask(4, 5, 6, 7))


def test_masks_of_a_track_in_mixed_forms():
    mask = box_mask(4, 5, 6, 7)
    track = [BOX, None, [], (), uncompressed(mask), box_polygons(4, 5, 6, 7)]
    text = BOX["counts"]
    assert parse_counts(track, 6, HEIGHT, WIDTH) == [text, "", "", "", text, text]
    assert parse_counts([BOX, None, []], 3, HEIGHT, WIDTH) == [text, "", ""]
    assert parse_counts([BOX, BOX], 2, HEIGHT, WIDTH) == [text, text]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (dict(BOX, size=[32, 24]), r"size \[32, 24\] in a video of 24 x 32"),
        (dict(counts="PPYo0"), "'size'"),
        (dict(size=3, counts="PPYo0"), "'size'"),
        ("x", "polygons"),
        (7, "polygons"),
        (dict(BOX, counts=[1, 2]), "describes 3 pixels, not a mask of 24 x 32"),
        (dict(BOX, counts=[800, -32]), "run lengths"),
        (dict(BOX, counts=[767.5, 0.5]), "run lengths"),
        (dict(BOX, counts=[1, [2]]), "run lengths"),
        (dict(BOX, counts=7), "run lengths"),
        ([[1, 2, 3, 4]], "3 or more points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "flat list"),
        ([1, 2, 3, 4, 5, 6], "flat list"),
        ([[1, 2, 3, 4, 5, None]], "finite"),
        ([[1, 2, 3, 4, 5, float("inf")]], "finite"),
        ([[1, 2, 3, 4, 5, float("nan")]], "finite"),
        ([[1, 2, 3, 4, 5, -1e7]], "at most 1000000 pixels"),
    ],
)
def test_what_is_no_mask_is_named_with_its_frame(mask, message):
    with pytest.raises(RLEError, match=message):
        to_rle(mask, HEIGHT, WIDTH)
    with pytest.raises(RLEError, match=message) as caught:
        parse_counts([BOX, None, mask], 3, HEIGHT, WIDTH)
    assert caught.value.index == 2


@pytest.mark.parametrize("others", [[BOX, None], [None, box_polygons(4, 5, 6, 7)]])
def test_an_rle_without_text_is_not_an_absent_one(others):
    with pytest.raises(RLEError, match="non-empty") as caught:
        parse_counts([*others, dict(BOX, counts="")], 3, HEIGHT, WIDTH)
    assert caught.value.index == 2


@pytest.mark.parametrize(
    ("track", "got"), [([BOX], "got 1"), (None, "got NoneType"), ("ab", "got str")]
)
def test_a_track_has_an_entry_for_each_frame(track, got):
    with pytest.raises(RLEError, match=f"an entry for each of 2 frames, {got}") as caught:
        parse_counts(track, 2, HEIGHT, WIDTH)
    assert caught.value.index is None


# --- files ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(masks, min_size=1, max_size=4), st.sampled_from([None, 1]), st.booleans())
def test_lists_in_a_json_become_text(many, indent, compact):
    content = [{"name": '"counts": [1, 2]', "masks": [uncompressed(mask) for mask in many]}]
    separators = (",", ":") if compact else None
    text = json.dumps(content, indent=indent, separators=separators).encode()
    expected = [{**content[0], "masks": [compressed(mask) for mask in many]}]
    assert json.loads(compress_lists(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        b'{"counts": []}',
        b'{"counts": [-1, 2]}',
        b'{"counts": [1.5]}',
        b'{"counts": [1,, 2]}',
        b'{"counts": [1, 2,]}',
        b'{"counts": [,1]}',
        b'{"counts": [1 2]}',
        b'{"counts": [ ]}',
        b'{"counts": [99999999999999999999999]}',
        b'{"counts": [[1]]}',
        b'{"counts": "PPYo0"}',
        b'{"count": [1, 2]}',
    ],
)
def test_everything_else_in_a_json_stays(text):
    assert compress_lists(text) == text


# --- encoding ---------------------------------------------------------------------------------

stacks = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 255]))
)


@settings(deadline=None)
@given(stacks)
def test_dense_masks_are_encoded_as_pycocotools_does(dense):
    expected = [compressed((mask > 0).astype(np.uint8)) for mask in dense]
    turned = dense.transpose(0, 2, 1).copy().transpose(0, 2, 1)  # not contiguous
    for masks_ in (dense, dense > 0, turned, dense.astype(np.int64) - 256 * (dense == 255)):
        assert encode_masks(masks_) == expected
        assert encode_masks(torch.from_numpy(masks_)) == expected


@settings(deadline=None)
@given(stacks)
def test_changes_are_found_on_a_device_as_on_the_cpu(dense):
    """The same operations; there is no other device here."""
    found = rle_module._changes_on_device(torch.from_numpy(dense) != 0)
    for (inside, tops), mask in zip(found, dense > 0, strict=True):
        expected = rle_module._changes(mask)
        assert np.array_equal(np.sort(inside), np.sort(expected[0]))
        assert np.array_equal(tops, expected[1])


def test_no_dense_masks():
    none = torch.zeros(0, 5, 6, dtype=torch.bool)
    assert encode_masks(none.numpy()) == encode_masks(none) == []
    assert list(rle_module._changes_on_device(none)) == []


# --- measuring --------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(masks, min_size=1, max_size=6))
def test_runs_of_many_masks(many):
    runs = decode_runs([compressed(mask)["counts"] for mask in many])
    assert runs.pixels.tolist() == [mask.size for mask in many]
    assert runs.areas.tolist() == [mask.sum() for mask in many]
    begin = 0
    for mask, stop in zip(many, runs.stops, strict=True):
        flat = np.zeros(mask.size, np.uint8)
        for start, end in runs.bounds[begin:stop].reshape(-1, 2):
            flat[start:end] += 1
        assert np.array_equal(flat, mask.T.ravel())
        begin = stop


def test_large_masks_and_offsets_do_not_overflow():
    mask = np.zeros((1080, 1920), np.uint8)
    mask[500:900, 300:1500] = 1
    counts = [compressed(mask)["counts"]] * 3
    far = 10**12
    runs = decode_runs(counts, np.array([0, 1, 2]) * far)
    assert runs.pixels.tolist() == [mask.size] * 3
    assert runs.areas.tolist() == [mask.sum()] * 3
    one, _, three = runs.bounds.reshape(3, -1)
    assert np.array_equal(three, one + 2 * far)


def test_no_masks_at_all():
    runs = decode_runs([])
    assert [len(x) for x in runs] == [0, 0, 0, 0]
    assert mask_areas(["", ""], HEIGHT, WIDTH).tolist() == [0, 0]


def test_areas_of_more_masks_than_pycocotools_takes_at_once():
    texts = [compressed(box_mask(0, 0, 1 + i % 9, 2))["counts"] for i in range(300)]
    expected = [2 * (1 + i % 9) for i in range(300)]
    assert mask_areas(texts, HEIGHT, WIDTH).tolist() == expected


GOOD = BOX["counts"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (GOOD[:-1], "cut off"),  # in a number
        ("\u00e9~", "not RLE"),
        (b"\xff\xfe", "not RLE"),
        (GOOD + "/", "not RLE"),
        (GOOD + "p", "not RLE"),
        ("0O", "not RLE"),  # a run of -1
        (GOOD + "o" * 30 + "0", "not RLE"),  # a number of 155 bits
        ("o" * 100 + "0", "not RLE"),  # one of 505 bits in the first place
        (GOOD + "P" * 100, "not RLE"),  # one that has no end
        ("0" + "oooooo7" * 2000, "not RLE"),  # ever longer runs
        (GOOD + "5", "780 pixels, not a mask of 24 x 32"),
        (compressed(np.zeros((24, 31), np.uint8))["counts"], "744 pixels, not a mask of 24 x 32"),
    ],
)
def test_text_that_is_no_mask_of_the_size(counts, message):
    with pytest.raises(RLEError, match=message) as caught:
        mask_areas([GOOD, "", counts, GOOD], HEIGHT, WIDTH)
    assert caught.value.index == 2


@settings(deadline=None)
@given(st.lists(st.text(max_size=12) | st.binary(max_size=12), min_size=1, max_size=5))
def test_any_text_is_measured_without_a_crash(texts):
    runs = decode_runs(texts)
    assert runs.pixels.shape == (len(texts),)
    bad = runs.pixels < 0
    assert (np.diff(runs.stops, prepend=0)[bad] == 0).all() and (runs.areas[bad] == 0).all()


@settings(deadline=None)
@given(st.lists(st.text("0123PQo_", max_size=8), min_size=1, max_size=5))
def test_texts_do_not_disturb_each_other(texts):
    alone = [int(rle_pixels([text])[0]) for text in texts]
    assert rle_pixels(texts).tolist() == alone


@settings(deadline=None)
@given(st.lists(small_masks, min_size=2, max_size=5))
def test_intersections_of_masks(many):
    runs = decode_runs([compressed(mask)["counts"] for mask in many])
    spans = np.stack([np.r_[0, runs.stops[:-1]], runs.stops], axis=1)
    first, second = np.indices((len(many), len(many))).reshape(2, -1)
    flat = np.stack(many).reshape(len(many), -1).astype(int)
    shared = intersections(runs.bounds, spans, first, second)
    assert shared.tolist() == (flat @ flat.T).ravel().tolist()


@settings(deadline=None)
@given(st.lists(st.lists(small_masks, min_size=3, max_size=3), min_size=2, max_size=4))
def test_masks_of_a_track_are_one_long_mask(tracks):
    counts = [compressed(mask)["counts"] for track in tracks for mask in track]
    runs = decode_runs(counts, np.tile(np.arange(3) * 30, len(tracks)))
    stops = runs.stops[2::3]
    spans = np.stack([np.r_[0, stops[:-1]], stops], axis=1)
    first, second = np.indices((len(tracks), len(tracks))).reshape(2, -1)
    flat = np.stack([np.stack(track).ravel() for track in tracks]).astype(int)
    shared = intersections(runs.bounds, spans, first, second)
    assert shared.tolist() == (flat @ flat.T).ravel().tolist()
