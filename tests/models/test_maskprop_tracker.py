"""The clip tracker: the slides' formulas by hand, and its properties."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvis_plugin.models.layers import soft_iou
from mmvis_plugin.models.maskprop import ClipTracker
from mmvis_plugin.models.maskprop.tracker import ClipTracks, matching_scores


def clip(first: int, *instances: list[list[float]], ids=None, labels=None) -> ClipTracks:
    """Instances given frame by frame as the values of four pixels."""
    ids = None if ids is None else np.array(ids)
    masks = torch.tensor(instances) if instances else torch.zeros(0, 3, 4)
    labels = torch.zeros(len(masks), dtype=torch.long) if labels is None else torch.tensor(labels)
    return ClipTracks(first, masks.float(), labels, ids)


A, B, C, NONE = [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]
# Three clips of three frames, centred at frames 1, 2 and 3 of a video of five. Object 0 is there
# throughout; object 1 leaves after frame 2; object 2 enters at frame 3.
CLIPS = [
    clip(0, [A, A, A], [B, B, B]),
    clip(1, [B, B, NONE], [A, A, C]),  # listed in another order; object 0 moves in frame 3
    clip(2, [A, C, C], [NONE, B, B]),
]


def test_hand_computed_example():
    tracker = ClipTracker(match_threshold=0.2)
    # First clip: nothing to compare with, both instances open identities.
    ids = [tracker.assign(CLIPS[0], [], 0)]
    assert ids[0].tolist() == [0, 1]
    CLIPS[0].ids = ids[0]

    # Second clip, frames 1 and 2 are shared. m = mean of two frames:
    #   instance 0 (B, B) with A: 0;  with B: (1 + 1) / 2 = 1
    #   instance 1 (A, A) with A: 1;  with B: 0
    m = matching_scores(CLIPS[1], CLIPS[:1])
    assert torch.allclose(m, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    q, candidates = tracker.identity_scores(CLIPS[1], CLIPS[:1])
    assert candidates.tolist() == [0, 1]
    # One earlier clip holds each identity, so the formula divides by 1 (the slides' example by 2).
    assert np.allclose(q, [[0, 1], [1, 0]])
    ids.append(tracker.assign(CLIPS[1], CLIPS[:1], 2))
    assert ids[1].tolist() == [1, 0]
    CLIPS[1].ids = ids[1]

    # Third clip. With the first clip only frame 2 is shared, with the second frames 2 and 3.
    #   instance 0 (A | C): first clip, id 0 (A): 1; id 1 (B): 0
    #                       second clip, id 1 (B, none): (0 + 0) / 2; id 0 (A, C): (1 + 1) / 2
    #   instance 1 (none | B): first clip: 0, 0
    #                       second clip, id 1 (B, none): 0; id 0 (A, C): sIoU(B, C) = 1/3 -> 1/6
    m = matching_scores(CLIPS[2], CLIPS[:2])
    assert torch.allclose(m, torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1 / 6]]))
    q, _ = tracker.identity_scores(CLIPS[2], CLIPS[:2])
    assert np.allclose(q, [[1, 0], [1 / 12, 0]])
    # 1/12 is below the threshold: the object that entered opens identity 2.
    assert tracker.assign(CLIPS[2], CLIPS[:2], 2).tolist() == [0, 2]


def test_matching_score_equals_the_loop_over_shared_frames():
    torch.manual_seed(0)
    new = ClipTracks(4, torch.rand(3, 5, 6), torch.zeros(3))
    others = [
        ClipTracks(0, torch.rand(2, 5, 6), torch.zeros(2)),  # shares frame 4
        ClipTracks(2, torch.rand(1, 5, 6), torch.zeros(1)),
        ClipTracks(3, torch.rand(2, 7, 6), torch.zeros(2)),  # longer than the new clip
    ]
    column = 0
    m = matching_scores(new, others)
    for other in others:
        shared = range(max(4, other.first), min(new.last, other.last) + 1)
        for j in range(len(other.masks)):
            for i in range(3):
                expected = np.mean(
                    [
                        float(soft_iou(new.masks[i, t - 4], other.masks[j, t - other.first]))
                        for t in shared
                    ]
                )
                assert abs(m[i, column] - expected) < 1e-5
            column += 1


def test_one_identity_at_most_once():
    """Both instances like identity 0 best; only one of them gets it."""
    history = [clip(0, [A, A, A], [C, C, C], ids=[0, 1])]
    rival = [[1, 1, 0.2, 0]] * 3
    new = clip(0, [A, A, A], rival)
    ids = ClipTracker(match_threshold=0.1).assign(new, history, 2)
    assert ids.tolist() == [0, 1]


def test_the_sum_of_scores_is_largest():
    """The best single pair is given up where that makes the other pair better by more.

    Intervals of 13 pixels: 7/9 + 3/13 = 1.01 with the best pair first, 6/10 + 6/10 the other way.
    """

    def interval(start, end):
        return [[float(start <= i < end) for i in range(13)]] * 3

    history = [clip(0, interval(3, 11), interval(0, 8), ids=[0, 1])]
    new = clip(0, interval(2, 10), interval(5, 13))
    q, _ = ClipTracker().identity_scores(new, history)
    assert np.allclose(q, [[7 / 9, 6 / 10], [6 / 10, 3 / 13]])
    assert ClipTracker(match_threshold=0.1).assign(new, history, 2).tolist() == [1, 0]


def test_clips_without_instances_and_clips_too_far_away():
    tracker = ClipTracker()
    assert tracker.assign(clip(0), [], 0).tolist() == []
    far = clip(0, [A, A, A], ids=[0])
    assert tracker.assign(clip(3, [A, A, A]), [far], 1).tolist() == [1]
    assert tracker.assign(clip(2, [A, A, A]), [clip(1, ids=[]), far], 1).tolist() == [0]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_identities_are_unique_in_a_frame_and_never_reused(data):
    seed = data.draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    tracker = ClipTracker(match_threshold=data.draw(st.floats(0, 0.9)))
    history, num_ids = [], 0
    for first in range(6):
        count = data.draw(st.integers(0, 4))
        new = ClipTracks(first, torch.rand(count, 3, 5, generator=generator), torch.zeros(count))
        new.ids = tracker.assign(new, history, num_ids)
        assert len(set(new.ids.tolist())) == count
        opened = sorted(i for i in new.ids.tolist() if i >= num_ids)
        assert opened == list(range(num_ids, num_ids + len(opened)))
        num_ids += len(opened)
        history.append(new)


def test_within_class_an_identity_stays_with_its_class():
    earlier = clip(0, [A, A, A], [B, B, B], ids=[0, 1], labels=[3, 5])
    swapped = clip(1, [A, A, A], [B, B, B], labels=[5, 5])
    assert ClipTracker(0.1).assign(swapped, [earlier], 2).tolist() == [0, 1]
    assert ClipTracker(0.1, within_class=True).assign(swapped, [earlier], 2).tolist() == [2, 1]
