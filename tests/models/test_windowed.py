"""Cutting a video into windows and linking their tracks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from mmvis_plugin.models.layers import pairwise_soft_iou
from mmvis_plugin.models.windowed import (
    TrackLinker,
    WindowedSegmentor,
    WindowSettings,
    WindowTracks,
    match_tracks,
)

SIZE = 8  # one row of pixels for each object there can be


class Oracle(WindowedSegmentor):
    """Finds the objects painted in the first channel, and returns them in any order.

    Object k fills row k where it is present. Its class is k, its score 0.5 + k / 100.
    """

    def __init__(self, windows: WindowSettings, seed: int = 0) -> None:
        super().__init__()
        self.windows = windows
        self.generator = torch.Generator().manual_seed(seed)
        self.window_lengths = []

    def loss(self, inputs, data_samples):
        raise NotImplementedError

    def segment_window(self, frames, metas):
        assert len(frames) == len(metas)
        self.window_lengths.append(len(frames))
        objects = torch.randperm(SIZE, generator=self.generator)
        present = frames[:, 0, objects, 0].T > 0
        logits = torch.full((SIZE, len(frames), SIZE, SIZE), -1.0)
        for row, k in enumerate(objects):
            logits[row, present[row], k] = 1.0
        return WindowTracks(logits, objects, 0.5 + objects / 100)

    def full_size_masks(self, logits, meta):
        return logits > 0


def paint(presence: torch.Tensor) -> tuple[torch.Tensor, list[dict]]:
    """Frames (T, 3, SIZE, SIZE) for (SIZE, T) presence, and their metainfo."""
    frames = torch.zeros(presence.shape[1], 3, SIZE, SIZE)
    frames[:, 0] = presence.T[:, :, None].float()
    return frames, [dict(ori_shape=(SIZE, SIZE), frame_id=t) for t in range(len(frames))]


def stream(model, frames, metas, cut: int):
    """All final frames, and the tracks, of a video fed ``cut`` frames at a time."""
    state, final = model.start_video({}), []
    for start in range(0, len(frames), cut):
        final += model.step(state, frames[start : start + cut], metas[start : start + cut])
        assert len(state.frames) <= model.windows.length
    rest, tracks = model.finish(state)
    return final + rest, tracks


def objects_of(frame) -> dict[int, int]:
    """Object -> identity in a final frame, read from the masks."""
    instances = frame.pred_track_instances
    rows = [int(mask_utils.decode(rle).argmax() // SIZE) for rle in instances.masks]
    assert rows == instances.labels.tolist()
    for row, box in zip(rows, instances.bboxes.tolist(), strict=True):
        assert box == [0, row, SIZE, row + 1]
    return dict(zip(rows, instances.instances_id.tolist(), strict=True))


def box_mask(*columns: tuple[int, int]) -> torch.Tensor:
    """(F, 13) masks of one track that covers columns [start, end) in each of F frames."""
    mask = torch.zeros(len(columns), 13)
    for row, (start, end) in zip(mask, columns, strict=True):
        row[start:end] = 1
    return mask


class TestMatchTracks:
    def test_hand_made_example(self):
        previous = torch.stack(
            [
                box_mask((0, 4), (0, 4)),  # stays
                box_mask((4, 6), (0, 0)),  # half of its pixels are found again: 2 of 4
                box_mask((6, 10), (6, 10)),  # gone
            ]
        )
        masks = torch.stack(
            [
                box_mask((4, 6), (4, 6)),
                box_mask((8, 10), (9, 10)),  # 3 of 8 pixels of the third: too few
                box_mask((0, 4), (1, 4)),
            ]
        )
        labels = torch.tensor([0, 1, 2])
        assert match_tracks(masks, labels, previous, labels, 0.5).tolist() == [1, -1, 0]
        assert match_tracks(masks, labels, previous, labels, 0.51).tolist() == [-1, -1, 0]
        assert match_tracks(masks, labels, previous, labels, 0.3).tolist() == [1, 2, 0]

    def test_one_to_one(self):
        previous = torch.stack([box_mask((0, 4))])
        masks = torch.stack([box_mask((0, 3)), box_mask((0, 4)), box_mask((1, 4))])
        labels = torch.zeros(3, dtype=torch.long)
        assert match_tracks(masks, labels, previous, labels[:1]).tolist() == [-1, 0, -1]

    def test_the_sum_of_ious_is_largest(self):
        """Best pair first would give 7/9 + 3/13 = 1.01, the other way is 6/10 + 6/10."""
        previous = torch.stack([box_mask((3, 11)), box_mask((0, 8))])
        masks = torch.stack([box_mask((2, 10)), box_mask((5, 13))])
        labels = torch.zeros(2, dtype=torch.long)
        assert match_tracks(masks, labels, previous, labels, 0.2).tolist() == [1, 0]

    def test_equal_masks_go_by_class(self):
        """One query reported as two classes: the classes do not cross."""
        masks = torch.stack([box_mask((0, 4)), box_mask((0, 4))])
        previous_labels = torch.tensor([3, 5])
        assert match_tracks(masks, torch.tensor([5, 3]), masks, previous_labels).tolist() == [1, 0]
        assert match_tracks(masks, torch.tensor([3, 5]), masks, previous_labels).tolist() == [0, 1]

    def test_another_class_is_no_obstacle(self):
        masks = torch.stack([box_mask((0, 4))])
        assert match_tracks(masks, torch.tensor([1]), masks, torch.tensor([2])).tolist() == [0]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_large_masks_under_autocast(self, dtype):
        """Above 65,504 cells an intersection in float16 is infinite, and above 256 one rounds."""
        masks = torch.ones(2, 2, 40_000)
        masks[0, :, 35_001:] = 0
        masks[1, :, :4_999] = 0
        labels = torch.zeros(2, dtype=torch.long)
        iou = pairwise_soft_iou(masks.flatten(1), masks.flatten(1))
        with torch.autocast("cpu", dtype):
            assert torch.equal(pairwise_soft_iou(masks.flatten(1), masks.flatten(1)), iou)
            assert match_tracks(masks.flip(0), labels, masks, labels).tolist() == [1, 0]
        assert iou.diagonal().tolist() == [1, 1]

    @pytest.mark.parametrize("counts", [(0, 0), (0, 3), (3, 0)])
    def test_nothing_to_match(self, counts):
        first, second = (torch.ones(n, 2, 5, dtype=torch.bool) for n in counts)
        labels, previous_labels = (torch.zeros(n, dtype=torch.long) for n in counts)
        matches = match_tracks(first, labels, second, previous_labels)
        assert matches.tolist() == [-1] * counts[0]

    @given(st.permutations(range(5)), st.integers(0, 100))
    @settings(max_examples=30, deadline=None)
    def test_finds_a_permutation(self, order, seed):
        masks = torch.rand(5, 3, 50, generator=torch.Generator().manual_seed(seed)) < 0.3
        labels = torch.zeros(5, dtype=torch.long)
        assert match_tracks(masks[order], labels, masks, labels).tolist() == order


class TestTrackLinker:
    def test_class_and_score_of_a_track(self):
        linker = TrackLinker()
        ids = torch.tensor([7])
        for label, score in ((1, 0.3), (2, 0.9), (1, 0.3)):
            linker.count(ids, torch.tensor([label]), torch.tensor([score]))
        tracks = linker.tracks()
        assert tracks.instances_id.tolist() == [7]
        assert tracks.labels.tolist() == [2]
        assert tracks.scores.tolist() == pytest.approx([0.5])

    def test_no_tracks(self):
        tracks = TrackLinker().tracks()
        assert len(tracks.instances_id) == len(tracks.labels) == len(tracks.scores) == 0
        assert isinstance(tracks, InstanceData)

    def test_windows_of_different_lengths_are_aligned(self):
        """The last window of a video may overlap the one before it by more."""
        linker = TrackLinker()
        labels = torch.zeros(2, dtype=torch.long)
        left, right = box_mask((0, 4)), box_mask((6, 10))
        # The two swap places between frames 1 and 2.
        first = torch.stack([torch.cat([left, left, right]), torch.cat([right, right, left])])
        second = torch.stack([torch.cat([right, left]), torch.cat([left, right])])
        assert linker.link(0, first, labels).tolist() == [0, 1]
        assert linker.link(1, second, labels).tolist() == [1, 0]


class TestWindowedSegmentor:
    @given(
        length=st.integers(2, 7),
        overlap=st.integers(1, 6),
        num_frames=st.integers(1, 24),
        cut=st.integers(1, 30),
        seed=st.integers(0, 1000),
    )
    @settings(max_examples=60, deadline=None)
    def test_objects_that_stay_keep_their_ids(self, length, overlap, num_frames, cut, seed):
        overlap = min(overlap, length - 1)
        model = Oracle(WindowSettings(length, overlap), seed)
        frames, metas = paint(torch.ones(SIZE, num_frames))
        final, tracks = stream(model, frames, metas, cut)

        assert [frame.frame_id for frame in final] == list(range(num_frames))
        first = objects_of(final[0])
        assert sorted(first.values()) == list(range(SIZE))
        assert all(objects_of(frame) == first for frame in final)
        assert dict(zip(tracks.labels.tolist(), tracks.instances_id.tolist(), strict=True)) == first
        torch.testing.assert_close(tracks.scores, 0.5 + tracks.labels / 100)
        # Every window is full, unless the video is shorter than one.
        assert set(model.window_lengths) == {min(length, num_frames)}

    @given(
        presence=st.lists(
            st.lists(st.booleans(), min_size=SIZE, max_size=SIZE), min_size=1, max_size=15
        ),
        seed=st.integers(0, 1000),
    )
    @settings(max_examples=60, deadline=None)
    def test_no_id_is_given_to_two_objects(self, presence, seed):
        model = Oracle(WindowSettings(4, 2), seed)
        presence = torch.tensor(presence).T
        final, tracks = stream(model, *paint(presence), cut=1)
        owners = {}
        for t, frame in enumerate(final):
            found = objects_of(frame)
            assert sorted(found) == presence[:, t].nonzero().flatten().tolist()
            for k, track in found.items():
                assert owners.setdefault(track, k) == k
        assert tracks.instances_id.tolist() == sorted(owners)
        assert tracks.labels.tolist() == [owners[track] for track in sorted(owners)]

    def test_frames_are_final_when_their_window_is_full(self):
        model = Oracle(WindowSettings(4, 1))
        frames, metas = paint(torch.ones(SIZE, 9))
        state = model.start_video({})
        counts = [len(model.step(state, frames[t : t + 1], metas[t : t + 1])) for t in range(9)]
        assert counts == [0, 0, 0, 4, 0, 0, 3, 0, 0]
        assert len(model.finish(state)[0]) == 2
        assert model.window_lengths == [4, 4, 4]

    def test_nothing_new_after_the_last_full_window(self):
        model = Oracle(WindowSettings(4, 1))
        final, _ = stream(model, *paint(torch.ones(SIZE, 7)), cut=7)
        assert len(final) == 7
        assert model.window_lengths == [4, 4]

    def test_video_without_frames(self):
        model = Oracle(WindowSettings())
        final, tracks = model.finish(model.start_video({}))
        assert final == []
        assert len(tracks.instances_id) == 0

    @pytest.mark.parametrize("values", [(4, 0), (4, 4), (1, 1), (4, 2, 0.0), (4, 2, 1.1)])
    def test_impossible_settings(self, values):
        with pytest.raises(ValueError, match="overlap|min_iou"):
            WindowSettings(*values)
