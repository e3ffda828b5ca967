"""IFC's linker against a slow form that keeps the masks of the whole video, and what it keeps."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mmvis_plugin.models.ifc.linking import (
    MaskMeans,
    OverlapLinker,
    OverlapSettings,
    tracks_of_classes,
)

CLASSES = 3
CELLS = 40


def made_up_windows(seed, num_frames, length, stride):
    """(first frame, mask logits (N, F, P), class probabilities (N, K + 1)) of each window.

    Objects are blocks of cells that drift and are hidden for some time; windows see them with
    noise, in an order of their own, and now and then see none.
    """
    rng = np.random.RandomState(seed)
    starts = rng.randint(0, CELLS - 8, 5)
    hidden = [rng.randint(0, num_frames, 2) for _ in starts]
    for first in window_starts(num_frames, length, stride):
        stop = min(first + length, num_frames)
        logits = np.full((len(starts), stop - first, CELLS), -3.0)
        for row, start in enumerate(starts):
            for t in range(first, stop):
                if not min(hidden[row]) <= t < max(hidden[row]):
                    place = (start + t // 4) % (CELLS - 8)
                    logits[row, t - first, place : place + 8] = 3.0
        logits += rng.randn(*logits.shape)
        found = rng.permutation(len(starts))[: rng.randint(0, len(starts) + 1)]
        probabilities = rng.dirichlet(np.ones(CLASSES + 1), len(found))
        yield first, torch.tensor(logits[found]).float(), torch.tensor(probabilities).float()


def window_starts(num_frames, length, stride):
    """0, S, 2 S ...; the first window that reaches the end starts a window before it, the last."""
    for start in range(0, num_frames, stride):
        if start + length >= num_frames:
            yield max(0, num_frames - length)
            return
        yield start


def slow_tracks(windows, num_frames):
    """All masks of all windows in the frames of the video, as in the authors' repository.

    Returns:
        Per identity the mean logits (num_frames, P), NaN where absent, and the mean probabilities.
    """
    seen = []  # one dict of a window: identity -> (masks (num_frames, P) or NaN, probabilities)
    count = 0
    for number, (first, logits, probabilities) in enumerate(windows):
        frames = np.arange(first, first + logits.shape[1])
        scores = np.zeros((count, len(logits)))
        for identity in range(count):
            for column, mask in enumerate(logits.sigmoid().double().numpy()):
                ious = []
                for window in seen[max(0, number - len(frames)) :]:
                    if identity not in window:
                        continue
                    earlier = 1 / (1 + np.exp(-window[identity][0][frames]))
                    shared = ~np.isnan(earlier[:, 0])
                    if shared.any():
                        p, q = earlier[shared], mask[shared]
                        ious.append((p * q).sum() / ((p + q - p * q).sum() + 1e-6))
                scores[identity, column] = sum(ious) / (len(ious) + 1e-6)
        scores[scores <= 0.05] = 0
        pairs = dict(zip(*reversed(linear_sum_assignment(scores, maximize=True)), strict=True))
        window = {}
        for column in range(len(logits)):
            identity = pairs.get(column)
            if identity is None or scores[identity, column] <= 0.05:
                identity, count = count, count + 1
            masks = np.full((num_frames, CELLS), np.nan)
            masks[frames] = logits[column]
            window[identity] = masks, probabilities[column].numpy()
        seen.append(window)
    for identity in range(count):
        found = [window[identity] for window in seen if identity in window]
        masks = np.stack([mask for mask, _ in found])
        present = ~np.isnan(masks).all(axis=0)
        mean = np.full(present.shape, np.nan)
        mean[present] = np.nanmean(masks[:, present], axis=0)
        yield mean, np.mean([classes for _, classes in found], axis=0)


def fast_tracks(windows, num_frames):
    """The same by the linker."""
    linker, frames = OverlapLinker(CLASSES), [MaskMeans() for _ in range(num_frames)]
    for first, logits, probabilities in windows:
        ids = linker.link(first, logits.sigmoid(), probabilities)
        for t in range(logits.shape[1]):
            frames[first + t].add(ids.tolist(), logits[:, t])
    scores = linker.class_scores()
    masks = torch.full((len(scores), num_frames, CELLS), torch.nan)
    for t, frame in enumerate(frames):
        ids, means = frame.means()
        if ids:
            masks[ids, t] = means
    return masks, scores


@pytest.mark.parametrize(
    ("num_frames", "length", "stride"), [(17, 5, 1), (17, 5, 3), (20, 8, 4), (3, 5, 1), (30, 12, 5)]
)
def test_tracks_are_those_of_the_slow_form(num_frames, length, stride):
    counts = []
    for seed in range(6):
        windows = list(made_up_windows(seed, num_frames, length, stride))
        masks, scores = fast_tracks(windows, num_frames)
        slow = list(slow_tracks(windows, num_frames))
        assert len(slow) == len(masks)
        for identity, (mean, classes) in enumerate(slow):
            np.testing.assert_allclose(masks[identity], mean, atol=1e-5)
            np.testing.assert_allclose(scores[identity], classes[:-1], atol=1e-6)
        counts.append(len(slow))
    if num_frames > length:
        # Some are linked, and some are not: objects are hidden for longer than a window.
        windows = [len(found) for _, found, _ in made_up_windows(0, num_frames, length, stride)]
        assert max(counts) > 5 and counts[0] < sum(windows)


def test_an_object_may_change_its_class():
    linker, mask = OverlapLinker(CLASSES), torch.full((1, 5, CELLS), 0.9)
    for first, label in ((0, 0), (1, 2), (2, 2)):
        probabilities = torch.full((1, CLASSES + 1), 0.1)
        probabilities[0, label] = 0.7
        assert linker.link(first, mask, probabilities).tolist() == [0]
    torch.testing.assert_close(linker.class_scores(), torch.tensor([[0.3, 0.1, 0.5]]))


def test_hidden_for_a_window_is_another_identity():
    linker, probabilities = OverlapLinker(CLASSES), torch.full((1, CLASSES + 1), 0.25)
    mask, none = torch.full((1, 2, CELLS), 0.9), torch.zeros(0, 2, CELLS)
    assert linker.link(0, mask, probabilities).tolist() == [0]
    assert linker.link(1, none, probabilities[:0]).tolist() == []
    assert linker.link(2, mask, probabilities).tolist() == [1]


def test_only_windows_that_can_overlap_the_next_one_are_kept():
    linker = OverlapLinker(CLASSES)
    kept = []
    for first in range(40):
        linker.link(first, torch.rand(3, 5, CELLS), torch.rand(3, CLASSES + 1))
        kept.append(len(linker._windows))
    assert max(kept) == 5


def test_a_frame_does_not_keep_its_window():
    logits = torch.randn(2, 50, 30)
    frame = MaskMeans()
    frame.add([3, 1], logits[:, 7].unsqueeze(1))
    assert all(m.untyped_storage().nbytes() == 30 * 4 for m in frame.sums.values())
    ids, means = frame.means()
    assert ids == [1, 3]
    torch.testing.assert_close(means[:, 0], logits[[1, 0], 7])


def test_tracks_with_several_classes_and_with_one():
    scores = torch.tensor([[0.6, 0.02, 0.005], [0.001, 0.002, 0.003]])
    several = tracks_of_classes(scores, 0.01, multi_class=True)
    assert several.instances_id.tolist() == [0, 0] and several.labels.tolist() == [0, 1]
    torch.testing.assert_close(several.scores, torch.tensor([0.6, 0.02]))
    one = tracks_of_classes(scores, 0.01, multi_class=False)
    assert one.instances_id.tolist() == [0, 1] and one.labels.tolist() == [0, 2]


@pytest.mark.parametrize("values", [dict(stride=6), dict(stride=0), dict(min_iou=1.0)])
def test_settings_out_of_range(values):
    with pytest.raises(ValueError, match="got|stride is"):
        OverlapSettings(**values)
