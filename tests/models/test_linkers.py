"""What all linkers share: overlaps, the assignment with a limit, detections."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmvis_plugin.models.track_by_detection.linkers import (
    Detections,
    LinkState,
    OnlineLinker,
    assign,
    box_iou,
    mask_iou,
    pairwise_overlap,
)
from mmvis_plugin.ytvis.rle import encode_masks

SHAPES = st.tuples(st.integers(0, 4), st.integers(0, 4))
COSTS = st.one_of(st.floats(0, 2), st.just(np.inf), st.just(np.nan))


def best_total(cost, limit):
    """The smallest sum of ``cost - limit`` over all sets of pairs, by trying them all."""
    rows, columns = range(cost.shape[0]), range(cost.shape[1])
    totals = [0.0]
    for count in range(1, min(cost.shape) + 1):
        for chosen in combinations(rows, count):
            for others in permutations(columns, count):
                totals.append(sum(cost[pair] - limit for pair in zip(chosen, others, strict=True)))
    return min(total for total in totals if np.isfinite(total))


@settings(max_examples=60, deadline=None)
@given(SHAPES.flatmap(lambda shape: hnp.arrays(float, shape, elements=COSTS)), st.floats(0.01, 2))
def test_assignment_is_the_best_of_all_sets_of_pairs(cost, limit):
    rows, columns = assign(cost, limit)
    assert len(set(rows)) == len(rows) == len(set(columns)) == len(columns)
    assert (cost[rows, columns] <= limit + 1e-9).all()
    assert (cost[rows, columns] - limit).sum() == pytest.approx(best_total(cost, limit), abs=1e-9)


def test_a_dear_pair_is_left_for_two_cheap_ones():
    rows, columns = assign(np.array([[0.1, 0.2], [0.3, 0.9]]), 0.5)
    assert rows.tolist() == [0, 1] and columns.tolist() == [1, 0]
    assert assign(np.array([[0.6]]), 0.5)[0].size == 0


def rectangle(x1, y1, x2, y2):
    mask = np.zeros((8, 8), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def test_overlaps_count_pixels():
    boxes = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [3, 3, 3, 3]])
    dense = np.stack([rectangle(*box) for box in boxes])
    pixels = dense.reshape(3, -1).astype(float)
    shared = pixels @ pixels.T
    union = pixels.sum(1)[:, None] + pixels.sum(1) - shared
    expected = shared / np.maximum(union, 1)
    assert np.allclose(mask_iou(encode_masks(dense), encode_masks(dense)), expected)
    assert np.allclose(box_iou(boxes, boxes), expected)


def test_box_and_mask_together_are_their_mean():
    boxes, moved = np.array([[0.0, 0, 4, 4]]), np.array([[2.0, 0, 6, 4]])
    full, half = (
        encode_masks(rectangle(0, 0, 4, 4)[None]),
        encode_masks(rectangle(0, 0, 2, 4)[None]),
    )
    arguments = (boxes, full, moved, half)
    assert pairwise_overlap("box", *arguments) == pytest.approx(np.array([[1 / 3]]))
    assert pairwise_overlap("mask", *arguments) == pytest.approx(np.array([[1 / 2]]))
    assert pairwise_overlap("box+mask", *arguments) == pytest.approx(np.array([[5 / 12]]))
    assert pairwise_overlap("box+mask", boxes[:0], [], moved, half).shape == (0, 1)


@pytest.mark.parametrize("index", [[2, 0], np.array([True, False, True]), []])
def test_select_takes_all_that_belongs_to_a_detection(index):
    masks = [{"size": [1, 1], "counts": str(i)} for i in range(3)]
    numbers = np.arange(3)
    found = Detections(
        np.repeat(numbers[:, None], 4, 1), numbers / 3, numbers, masks, numbers[:, None]
    )
    some = found.select(index)
    rows = numbers[index].tolist()
    assert len(some) == len(rows) and some.labels.tolist() == rows
    assert some.bboxes[:, 0].tolist() == rows and some.features[:, 0].tolist() == rows
    assert [mask["counts"] for mask in some.masks] == [str(row) for row in rows]
    assert (
        Detections(found.bboxes, found.scores, found.labels, masks).select(index).features is None
    )


class EverybodyIsNew(OnlineLinker):
    def link(self, state, detections):
        return state.new_ids(len(detections))


def test_an_online_linker_gives_each_frame_back_at_once():
    linker = EverybodyIsNew()
    state = linker.start()
    empty = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), [])
    two = Detections(np.zeros((2, 4)), np.zeros(2), np.zeros(2, int), [{}, {}])
    linked = [
        linker.step(state, found, name) for name, found in [("a", two), ("b", empty), ("c", two)]
    ]
    assert [(name, ids.tolist()) for frame in linked for name, ids in frame] == [
        ("a", [0, 1]),
        ("b", []),
        ("c", [2, 3]),
    ]
    assert state == LinkState(num_frames=3, num_ids=4)
    assert linker.finish(state) == ([], None)


def test_an_unknown_overlap_is_named():
    with pytest.raises(ValueError, match="overlap is 'giou'; a linker knows box, mask, box\\+mask"):
        EverybodyIsNew(overlap="giou")
