"""What SORT, DeepSORT, ByteTrack and OC-SORT are good for, and what all of them promise."""

import pickle
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linking import assert_same_tracks, found, link, random_video

from mmvis_plugin.models import ByteTrackLinker, DeepSORTLinker, OCSORTLinker, SORTLinker

LINKERS = [SORTLinker, DeepSORTLinker, ByteTrackLinker, OCSORTLinker]


def around(x, y, size=40):
    return [x - size / 2, y - size / 2, x + size / 2, y + size / 2]


# --- what they are good for ----------------------------------------------------------------------


def test_appearance_keeps_identities_of_objects_that_bounce():
    """Two objects meet, are hidden for two frames and turn back; the filters expect a crossing."""
    offsets = [21 - 3 * n for n in range(7)] + [None] * 2 + [3 + 3 * n for n in range(6)]
    video = [
        found([], features=np.zeros((0, 2)))
        if x is None
        else found([around(300 - x, 100), around(300 + x, 100)], features=[[1, 0], [0, 1]])
        for x in offsets
    ]
    assert link(DeepSORTLinker(), video)[-1].tolist() == [0, 1]
    assert link(SORTLinker(max_gap=2), video)[-1].tolist() == [1, 0]
    assert link(ByteTrackLinker(), video)[-1].tolist() == [1, 0]


def test_low_scores_keep_a_track_through_an_occlusion():
    """Behind something an object turns round; it is seen all the time, but with a low score."""
    xs = [100 + 5 * n for n in range(8)] + [135 - 5 * n for n in range(8)]
    video = [found([around(x, 100)], [0.3 if 6 <= n < 14 else 0.9]) for n, x in enumerate(xs)]
    assert np.concatenate(link(ByteTrackLinker(), video)).tolist() == [0] * 16
    high_only = np.concatenate(link(ByteTrackLinker(low_score=0.6), video))
    assert high_only.tolist() == [0] * 6 + [-1] * 8 + [1] * 2


def test_low_scores_open_no_track():
    video = [found([around(100, 100)], [0.5])] * 4
    assert [ids.tolist() for ids in link(ByteTrackLinker(), video)] == [[-1]] * 4


class WithoutRefilter(OCSORTLinker):
    def refilter(self, track, bbox):
        pass


@pytest.mark.parametrize(("before", "gap", "after", "size"), [(6, 10, -4, 120), (12, 8, -6, 120)])
def test_refiltering_forgets_the_motion_from_before_a_gap(before, gap, after, size):
    """An object turns round while it is missed: its next box is predicted better."""
    end = 100 + 7 * before + gap * after
    xs = [100 + before * n for n in range(8)] + [None] * gap + [end + after, end + 2 * after]
    video = [found([] if x is None else [around(x, 100, size)]) for x in xs]
    errors = []
    for linker in (OCSORTLinker(), WithoutRefilter()):
        state = linker.start()
        assert np.concatenate([linker.link(state, d) for d in video[:-1]]).tolist() == [0] * 9
        linker.predict(state.tracks[0])
        errors.append(abs(state.tracks[0].mean[0] - xs[-1]))
    assert errors[0] < 0.9 * errors[1]


def test_recovery_finds_a_track_where_it_was_seen_last():
    """The filter went on with the motion; ByteTrack, which has nothing else, loses the track."""
    xs = [100 + 12 * n for n in range(6)] + [None] * 5 + [160]
    video = [found([] if x is None else [around(x, 100)]) for x in xs]
    assert link(OCSORTLinker(), video)[-1] == [0]
    assert link(ByteTrackLinker(), video)[-1] == [1]


def test_direction_decides_where_overlap_does_not():
    """A detection half a box ahead of a track and one half a box behind it overlap it equally."""
    linker = OCSORTLinker(direction_weight=0.5)
    state = linker.start()
    for x in range(100, 160, 6):
        linker.link(state, found([around(x, 100)]))
    linker.predict(state.tracks[0])
    x = state.tracks[0].mean[0]
    angles = linker.angles(state.tracks, found([around(x + 20, 100), around(x - 60, 100)]))
    assert angles[0] == pytest.approx([-0.5, 0.5], abs=0.01)


@pytest.mark.parametrize("kind", LINKERS)
def test_frames_without_detections_predict_and_age(kind):
    """After a gap an object is where its motion brought it, and after a long one it is new."""
    linker = kind(max_gap=4)
    motion = [(100 + 15 * n, 100) for n in range(30)]

    def video(gap):
        return [
            found(
                [] if 8 <= n < 8 + gap else [around(*xy)],
                features=np.ones((8 <= n < 8 + gap) ^ 1)[:, None],
            )
            for n, xy in enumerate(motion)
        ]

    assert np.concatenate(link(linker, video(4))).max() == 0
    assert np.concatenate(link(linker, video(5))).max() == 1


@pytest.mark.parametrize("kind", LINKERS)
def test_tentative_tracks_can_be_hidden(kind):
    late = [found([]), *[found([around(100, 100)], features=[[1, 0]])] * 5]
    late[0].features = np.zeros((0, 2))
    video = [late[0]] * 3 + late  # SORT shows everything in the first three frames
    assert [len(ids) and ids[0] for ids in link(kind(), video)][-5:] == [0] * 5
    hidden = link(kind(show_tentative=False), video)
    assert [ids[0] for ids in hidden[-5:]] == [-1, -1, 0, 0, 0]


@pytest.mark.parametrize("kind", LINKERS)
def test_class_gate(kind):
    boxes = [around(100, 100)]
    video = [found(boxes, labels=[n % 2], features=[[1, 0]]) for n in range(4)]
    assert set(np.concatenate(link(kind(class_gate=False), video))) == {0}
    assert np.concatenate(link(kind(), video))[1] == 1


# --- what they promise ---------------------------------------------------------------------------

CORNERS = st.tuples(*[st.sampled_from([0, 1, 30, 40, 90, 400]) for _ in range(4)])
DETECTION = st.tuples(CORNERS, st.sampled_from([0.0, 0.2, 0.5, 0.65, 0.8, 1.0]), st.integers(0, 1))
FRAMES = st.lists(st.lists(DETECTION, max_size=4), max_size=12)


@pytest.mark.parametrize("kind", LINKERS)
@settings(max_examples=60, deadline=None)
@given(frames=FRAMES, faulty=st.sampled_from([np.nan, np.inf, 0.0]))
def test_identities(kind, frames, faulty):
    """Unique in a frame, from 0, never of two classes, not reused; boxes without area have none."""
    linker = kind(max_gap=2)
    state, seen, last, classes = linker.start(), set(), {}, defaultdict(set)
    for number, frame in enumerate(frames):
        boxes = [
            [faulty * (i == 3) + corner for corner in box] for i, (box, _, _) in enumerate(frame)
        ]
        scores, labels = [d[1] for d in frame], [d[2] for d in frame]
        detections = found(boxes, scores, labels, np.ones((len(frame), 2)))
        ((back, ids),) = linker.step(state, detections, number)
        given_ids = ids[ids >= 0].tolist()
        assert back == number and ids.dtype == np.int64 and len(ids) == len(frame)
        assert len(set(given_ids)) == len(given_ids)
        seen |= set(given_ids)
        for identity, box, label in zip(ids.tolist(), detections.bboxes, labels, strict=True):
            if not (np.isfinite(box).all() and (box[2:] > box[:2]).all()):
                assert identity == -1
            if identity >= 0:
                assert number - last.get(identity, number) <= 3
                last[identity] = number
                classes[identity].add(label)
        assert all(np.isfinite(track.mean).all() for track in state.tracks)
    assert all(len(labels) == 1 for labels in classes.values())
    assert seen <= set(range(state.num_ids))
    assert kind is not SORTLinker or seen == set(range(state.num_ids))


@pytest.mark.parametrize("kind", LINKERS)
def test_the_order_of_detections_plays_no_part(kind):
    rng = np.random.default_rng(0)
    for seed in range(5):
        video = random_video(seed)
        orders = [rng.permutation(len(detections)) for detections in video]
        mixed = [d.select(order) for d, order in zip(video, orders, strict=True)]
        ids = link(kind(), video)
        expected = [frame[order] for frame, order in zip(ids, orders, strict=True)]
        assert_same_tracks(link(kind(), mixed), expected)


@pytest.mark.parametrize("kind", LINKERS)
def test_two_videos_at_a_time(kind):
    linker = kind()
    videos = [random_video(seed) for seed in (1, 2)]
    states = [linker.start() for _ in videos]
    mixed = [
        [linker.step(state, d, None)[0][1] for state, d in zip(states, frames, strict=True)]
        for frames in zip(*videos, strict=True)
    ]
    for video, ids in zip(videos, zip(*mixed, strict=True), strict=True):
        assert all(map(np.array_equal, ids, link(linker, video)))


@pytest.mark.parametrize("kind", LINKERS)
def test_the_state_stays_bounded_over_2000_frames(kind):
    linker = kind()
    state, sizes = linker.start(), []
    for seed in range(50):
        for detections in random_video(seed, num_frames=40, num_objects=2):
            linker.step(state, detections, None)
        sizes.append(len(pickle.dumps(state)))
    assert state.num_frames == 2000 and state.num_ids > 100
    assert max(sizes[25:]) <= 1.5 * max(sizes[:25])
    assert len(state.tracks) < 20
