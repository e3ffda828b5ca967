"""What all linkers share (overlaps, the assignment with a limit, detections), IoUTracker+ and
SeqTracker against slow forms of their rules."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_utils

from mmvis_plugin.models.track_by_detection.linkers import (
    Detections,
    IoUPlusLinker,
    LinkState,
    OnlineLinker,
    SeqLinker,
    assign,
    box_iou,
    pairwise_overlap,
)
from mmvis_plugin.ytvis.mask_overlap import mask_iou
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


# --- sequences ----------------------------------------------------------------------------------


def random_video(seed, num_frames=6, num_objects=3, num_classes=2):
    """Frames of detections: objects that move, are missed at times and found twice at others."""
    rng = np.random.default_rng(seed)
    position = rng.uniform(0, 30, (num_objects, 2))
    size = rng.uniform(6, 14, (num_objects, 2))
    classes = rng.integers(num_classes, size=num_objects)
    frames = []
    for _ in range(num_frames):
        position = position + rng.normal(0, 1.5, position.shape)
        found = rng.permutation(np.repeat(np.arange(num_objects), rng.integers(0, 3, num_objects)))
        corners = position[found] + rng.normal(0, 0.7, (len(found), 2))
        # No two boxes are of one size: a third one inside of both would fit them equally.
        sizes = size[found] * rng.uniform(0.9, 1.1, (len(found), 2))
        boxes = np.hstack([corners, corners + sizes])
        labels = np.where(rng.random(len(found)) < 0.9, classes[found], 1 - classes[found])
        frames.append(detections_of(boxes, rng.uniform(0.05, 1, len(found)), labels))
    return frames


def detections_of(boxes, scores, labels):
    """Detections whose masks are what is in the picture of their boxes."""
    dense = np.zeros((len(boxes), 48, 48), bool)
    for mask, (x1, y1, x2, y2) in zip(dense, np.round(boxes).astype(int).clip(0), strict=True):
        mask[y1:y2, x1:x2] = True
    order = np.argsort(-scores)
    masks = encode_masks(dense[order]) if len(boxes) else []
    return Detections(boxes[order], scores[order], labels[order], masks)


def link_all(linker, frames):
    state = linker.start()
    linked = [frame for i, found in enumerate(frames) for frame in linker.step(state, found, i)]
    rest, tracks = linker.finish(state)
    linked += rest
    assert [index for index, _ in linked] == list(range(len(frames))) and tracks is None
    return [ids.tolist() for _, ids in linked]


def overlap_of(kind, some, row, others, other):
    """Overlap of two detections, their pixels counted."""
    values = []
    if "box" in kind:
        (a, b, c, d), (e, f, g, h) = some.bboxes[row], others.bboxes[other]
        shared = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
        values.append(shared / ((c - a) * (d - b) + (g - e) * (h - f) - shared))
    if "mask" in kind:
        both = mask_utils.decode([some.masks[row], others.masks[other]]).astype(bool)
        values.append(both.all(-1).sum() / max(both.any(-1).sum(), 1))
    return sum(values) / len(values)


# --- IoUTracker+ --------------------------------------------------------------------------------


def slow_iou_plus(frames, kind, min_iou=0.3, max_gap=300):
    """The rule, a detection and an instance at a time."""
    memory, result, count = {}, [], 0  # identity -> (frame, detections, row)
    for t, found in enumerate(frames):
        memory = {i: seen for i, seen in memory.items() if t - seen[0] <= max_gap}
        ids, claims = [-1] * len(found), {}
        for row in range(len(found)):
            best = None
            for identity, (_, seen, place) in memory.items():
                iou = overlap_of(kind, found, row, seen, place)
                same = found.labels[row] == seen.labels[place]
                fit = np.log(found.scores[row]) + 2 * iou + 10 * same
                if best is None or fit > best[0]:
                    best = fit, identity, same and iou >= min_iou
            if best is None or not best[2]:
                ids[row], count = count, count + 1
            else:
                claims.setdefault(best[1], []).append((best[0], row))
        for identity, claimants in claims.items():
            ids[max(claimants)[1]] = identity
        memory.update((i, (t, found, row)) for row, i in enumerate(ids) if i >= 0)
        result.append(ids)
    return result


@pytest.mark.parametrize("kind", ["box", "mask", "box+mask"])
def test_iou_plus_follows_its_rule(kind):
    dropped = again = 0
    for seed in range(20):
        frames = random_video(seed, num_frames=8)
        ids = link_all(IoUPlusLinker(overlap=kind, max_gap=4), frames)
        assert ids == slow_iou_plus(frames, kind, max_gap=4)
        dropped += sum(frame.count(-1) for frame in ids)
        again += any(set(ids[t]) & set(ids[t + 2]) - set(ids[t + 1]) - {-1} for t in range(6))
    assert dropped > 10 and again > 5  # the branches that make it "+" were taken


def test_iou_plus_forgets_what_it_has_not_seen_for_long():
    linker = IoUPlusLinker(max_gap=3)
    box = detections_of(np.array([[2.0, 2, 9, 9]]), np.array([0.9]), np.array([0]))
    nothing = box.select([])
    assert link_all(linker, [box, nothing, nothing, box]) == [[0], [], [], [0]]
    assert link_all(linker, [box, nothing, nothing, nothing, box]) == [[0], [], [], [], [1]]
    state = linker.start()
    for index in range(50):  # a new object in every frame
        there = np.array([[index * 20.0, 0, index * 20 + 9, 9]])
        linker.step(state, detections_of(there, np.array([0.9]), np.array([0])), None)
    assert len(state.memory) == 4


# --- SeqTracker ---------------------------------------------------------------------------------


def slow_seq_nms(frames, kind, link_iou=0.5, suppress_iou=0.3, min_sum=0.1):
    """Seq-NMS with all chains of the video written out."""
    free = {(t, row) for t, found in enumerate(frames) for row in range(len(found))}

    def near(a, b, min_iou):
        (t, row), (u, other) = a, b
        same = frames[t].labels[row] == frames[u].labels[other]
        return same and overlap_of(kind, frames[t], row, frames[u], other) > min_iou

    follows = {
        a: [b for b in free if b[0] == a[0] + 1 and near(a, b, link_iou)] for a in sorted(free)
    }
    rivals = {a: [b for b in free if b[0] == a[0] and near(a, b, suppress_iou)] for a in free}

    def chains_from(a):
        yield [a]
        for b in follows[a]:
            if b in free:
                for rest in chains_from(b):
                    yield [a, *rest]

    def total(chain):
        return sum(frames[t].scores[row] for t, row in chain)

    ids = [[-1] * len(found) for found in frames]
    count = 0
    while free:
        best = max((chain for a in free for chain in chains_from(a)), key=total)
        if total(best) < min_sum:
            break
        for t, row in best:
            ids[t][row] = count
            free -= {(t, row), *rivals[t, row]}
        count += 1
    return ids


@pytest.mark.parametrize("kind", ["box", "mask", "box+mask"])
def test_seq_is_seq_nms(kind):
    lengths, dropped = [], 0
    for seed in range(20):
        frames = random_video(seed, num_frames=5)
        ids = link_all(SeqLinker(overlap=kind), frames)
        assert ids == slow_seq_nms(frames, kind)
        dropped += sum(frame.count(-1) for frame in ids)
        flat = sum(ids, [])
        lengths.append(max((flat.count(track) for track in set(flat) - {-1}), default=0))
    assert dropped > 10 and max(lengths) == 5


def steady(num_frames, boxes=((2, 2, 12, 12), (22, 22, 34, 36))):
    """Two objects that stay, each found in every frame."""
    scores = np.linspace(0.9, 0.6, len(boxes))
    boxes = np.array(boxes, float)
    return [
        detections_of(boxes + 0.2 * t, scores, np.zeros(len(boxes), int)) for t in range(num_frames)
    ]


def test_seq_tracks_go_through_windows():
    frames = steady(40)
    frames[17] = frames[17].select([0])  # the second object is missed once: no gap is bridged
    ids = link_all(SeqLinker(window=8, shared_frames=3), frames)
    assert {frame[0] for frame in ids} == {0}
    assert {frame[1] for frame in ids[:17]} == {1}
    assert {frame[1] for frame in ids[18:]} == {2}
    # As a whole, the longer part of the second object is found first.
    names = {0: 0, 1: 2, 2: 1}
    whole = link_all(SeqLinker(window=48), frames)
    assert ids == [[names[identity] for identity in frame] for frame in whole]


def test_seq_holds_back_a_window_and_no_more():
    linker = SeqLinker(window=6, shared_frames=2)
    state, final = linker.start(), []
    for index, found in enumerate(steady(30)):
        final.append(len(linker.step(state, found, index)))
        assert len(state.window) < 6
        assert sum(held.frame is not None for held in state.window) < 6
    assert final[:14] == [0, 0, 0, 0, 0, 6, 0, 0, 0, 4, 0, 0, 0, 4]


def test_two_tracks_do_not_become_one_between_windows():
    """A chain takes the identity of most of its detections, and no other chain takes it, too."""
    for seed in range(20):
        frames = random_video(seed, num_frames=14, num_objects=4)
        for frame in link_all(SeqLinker(window=5, shared_frames=3), frames):
            shown = [identity for identity in frame if identity >= 0]
            assert len(shown) == len(set(shown))


@pytest.mark.parametrize("shared", [0, 4])
def test_windows_must_share_a_frame_and_bring_one(shared):
    with pytest.raises(ValueError, match=f"shared_frames is {shared}, window is 4"):
        SeqLinker(window=4, shared_frames=shared)
