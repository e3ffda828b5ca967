"""Hand-crafted linking of clips, against its rule in loops."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from mmvis_plugin.models.efficientvis.linking import ClipTracklets, HandCraftLinking, affinity

HEIGHT, WIDTH = 40, 60
QUERIES = torch.zeros(3, 4)


def encode(box):
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    x1, y1, x2, y2 = box
    mask[y1:y2, x1:x2] = 1
    return mask_utils.encode(mask)


def clip(*tracklets):
    """Of 2 frames; a tracklet is (class, box or None in each frame)."""
    count = len(tracklets)
    present = torch.zeros(count, 2, dtype=torch.bool)
    probabilities, boxes = torch.zeros(count, 2, 4), torch.zeros(count, 2, 4)
    masks = [{}, {}]
    for n, (label, *seen) in enumerate(tracklets):
        probabilities[n, :, label] = 1
        for t, box in enumerate(seen):
            if box is not None:
                present[n, t], boxes[n, t], masks[t][n] = True, torch.tensor(box), encode(box)
    metas = [dict(ori_shape=(HEIGHT, WIDTH))] * 2
    return ClipTracklets(metas, QUERIES[:count], probabilities, present, boxes, masks)


LEFT, RIGHT, BELOW = [2, 2, 20, 20], [40, 4, 58, 24], [24, 28, 36, 38]


def test_tracklets_keep_their_identity_whatever_their_query():
    linking = HandCraftLinking(min_affinity=0.6)
    links = linking.start(QUERIES)
    assert linking.link(links, clip((0, LEFT, LEFT), (1, RIGHT, None))).tolist() == [0, 1]
    swapped = clip((1, None, RIGHT), (2, BELOW, BELOW), (0, LEFT, BELOW))
    assert linking.link(links, swapped).tolist() == [1, 2, 0]
    # The last one is found where it was last seen, not where it was first seen.
    ids = linking.link(links, clip((0, BELOW, LEFT), (1, None, None)))
    assert ids.tolist() == [0, -1]
    assert linking.link(links, clip((1, RIGHT, RIGHT))).tolist() == [3]
    assert links.queries is QUERIES


def test_pairs_below_the_threshold_stay_apart():
    for threshold, expected in ((0.6, [1]), (0.1, [0])):
        linking = HandCraftLinking(min_affinity=threshold)
        links = linking.start(QUERIES)
        linking.link(links, clip((0, LEFT, LEFT)))
        assert linking.link(links, clip((0, RIGHT, RIGHT))).tolist() == expected


def test_the_sum_of_affinities_is_largest():
    """The best single pair is given up where that makes the other pair better by more."""
    earlier, later = (
        [[start, 2, start + 8, 20] for start in starts] for starts in [(3, 0), (2, 5)]
    )
    scale = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    scores = affinity(
        torch.tensor(earlier) / scale,
        [encode(box) for box in earlier],
        torch.tensor(later) / scale,
        [encode(box) for box in later],
        torch.ones(2, 2, dtype=torch.bool),
    )
    assert scores.max() == scores[0, 0] and scores.min() == scores[1, 1] > 0.5
    assert scores.trace() < scores[0, 1] + scores[1, 0]
    linking = HandCraftLinking(min_affinity=0.5)
    links = linking.start(QUERIES)
    assert linking.link(links, clip(*((0, box, box) for box in earlier))).tolist() == [0, 1]
    assert linking.link(links, clip(*((0, box, box) for box in later))).tolist() == [1, 0]


def test_clips_without_tracklets():
    linking = HandCraftLinking()
    links = linking.start(QUERIES)
    nothing = clip((0, None, None))
    assert linking.link(links, nothing).tolist() == [-1]
    assert linking.link(links, clip((0, LEFT, LEFT))).tolist() == [0]
    assert linking.link(links, nothing).tolist() == [-1]
    assert linking.link(links, clip((0, LEFT, LEFT))).tolist() == [1]


def corners(limit):
    return st.tuples(st.integers(0, limit - 2), st.integers(2, limit)).filter(
        lambda pair: pair[0] + 1 < pair[1]
    )


boxes = st.builds(lambda x, y: [x[0], y[0], x[1], y[1]], corners(WIDTH), corners(HEIGHT))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(boxes, min_size=1, max_size=3),
    st.lists(boxes, min_size=1, max_size=3),
    st.booleans(),
)
def test_affinity_is_the_mean_of_its_four_terms(first, second, same):
    scale = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]).float()
    actual = affinity(
        torch.tensor(first) / scale,
        [encode(box) for box in first],
        torch.tensor(second) / scale,
        [encode(box) for box in second],
        torch.full((len(first), len(second)), same),
    )
    for i, j in itertools.product(range(len(first)), range(len(second))):
        a, b = first[i], second[j]
        width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        iou = width * height / (sum(areas) - width * height)  # the masks fill their boxes
        distance = sum(abs(u - v) / s for u, v, s in zip(a, b, scale.tolist(), strict=True))
        expected = (iou + (1 - distance / 4) + iou + same) / 4
        assert actual[i, j] == pytest.approx(expected, abs=1e-5)
        assert 0 <= actual[i, j] <= 1
