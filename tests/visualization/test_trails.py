import numpy as np
import pytest
from mmengine.structures import InstanceData

from mmvis_plugin.visualization import TrackVisualizer, track_color

FRAME = np.full((200, 300, 3), 128, np.uint8)


def frame_of(*tracks):
    """Instances with boxes of 20 pixels around the centres of tracks (id, x, y)."""
    boxes = [(x - 10, y - 10, x + 10, y + 10) for _, x, y in tracks]
    return InstanceData(
        bboxes=np.array(boxes, float).reshape(-1, 4),
        labels=np.zeros(len(tracks), int),
        scores=np.full(len(tracks), 0.9),
        instances_id=np.array([id_ for id_, _, _ in tracks], int),
        masks=np.zeros((len(tracks), 200, 300), np.uint8),
    )


@pytest.fixture
def bare(monkeypatch):
    """A visualizer whose pictures have nothing but boxes and trails."""
    monkeypatch.setattr(TrackVisualizer, "_write_labels", lambda *args: None)
    return lambda **settings: TrackVisualizer(("ball",), **settings)


def colored(picture, track):
    return (picture == track_color(track)).all(axis=-1)


def test_trail_follows_the_centre_and_no_farther_than_its_length(bare):
    visualizer = bare(trails=4)
    path = [(30 + 20 * t, 60 + 5 * t) for t in range(9)]
    for x, y in path:
        picture = visualizer.draw(FRAME, frame_of((3, x, y)))
    trail = colored(picture, 3)
    for (x1, y1), (x2, y2) in zip(path[4:], path[5:], strict=False):
        for part in np.linspace(0, 1, 11):
            x, y = round(x1 + part * (x2 - x1)), round(y1 + part * (y2 - y1))
            assert trail[y - 1 : y + 2, x - 1 : x + 2].any()
    assert trail[:, : path[4][0] - 3].sum() == 0
    # It grows towards where the track is now.
    start, end = (trail[:, x].sum() for x in (path[4][0] + 8, path[8][0] - 12))
    assert start < end


def test_a_gap_breaks_the_trail_and_tracks_keep_theirs_apart(bare):
    visualizer = bare(trails=20)
    for t in range(10):
        tracks = [(1, 30 + 20 * t, 150)]
        if not 3 <= t < 6:
            tracks.append((0, 30 + 20 * t, 50))
        picture = visualizer.draw(FRAME, frame_of(*tracks))
    row = colored(picture, 0)[50]
    assert row[31:69].all() and not row[73:148].any() and row[151:195].all()
    assert colored(picture, 1)[150, 31:195].all()
    assert not colored(picture, 1)[:100].any()


def test_trail_stays_until_it_has_passed(bare):
    visualizer = bare(trails=3)
    for t in range(3):
        visualizer.draw(FRAME, frame_of((2, 50 + 20 * t, 80)))
    seen = [colored(visualizer.draw(FRAME, frame_of()), 2).sum() for _ in range(4)]
    assert seen[0] > seen[1] > 0 and seen[2] == seen[3] == 0


def test_trail_of_an_enlarged_picture(bare):
    visualizer = bare(trails=5, enlarge=3)
    for t in range(4):
        picture = visualizer.draw(FRAME, frame_of((0, 50 + 20 * t, 80)))
    assert picture.shape == (600, 900, 3)
    assert colored(picture, 0)[240, 152:300].all()


def test_without_trails_nothing_is_remembered(bare):
    visualizer = bare()
    for t in range(4):
        picture = visualizer.draw(FRAME, frame_of((0, 50 + 20 * t, 80)))
    assert not colored(picture, 0)[:, :90].any()


def test_trail_is_rimmed_so_that_it_is_seen_on_its_own_mask(bare):
    visualizer = bare(trails=5, mask_alpha=1.0)
    for t in range(4):
        instances = frame_of((0, 50 + 20 * t, 80))
        instances.masks[:] = 1  # all of the frame in the colour of the trail
        picture = visualizer.draw(FRAME, instances)
    column = picture[:, 80]
    rim = ~colored(picture, 0)[:, 80]
    assert rim[70:90].sum() == 2 and (column[rim] == 0).all()
