import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytest
import torch
from mmengine.structures import InstanceData

from mmvis_plugin.visualization import TrackVisualizer, track_color, track_visualizer
from mmvis_plugin.visualization.labels import text_height, text_width, write_label


def rectangle_mask(shape, x1, y1, x2, y2):
    mask = np.zeros(shape, np.uint8)
    mask[y1:y2, x1:x2] = 1
    return mask


def make_instances(masks, ids, scores, labels=None, dense=False):
    boxes = [mask_utils.toBbox(mask_utils.encode(np.asfortranarray(m))) for m in masks]
    boxes = np.array(boxes).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32),
        labels=torch.tensor(labels or [0] * len(ids), dtype=torch.long),
        scores=torch.tensor(scores, dtype=torch.float32),
        instances_id=torch.tensor(ids, dtype=torch.long),
        masks=torch.tensor(np.array(masks))
        if dense
        else [mask_utils.encode(np.asfortranarray(m)) for m in masks],
    )


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)


@pytest.fixture
def no_labels(monkeypatch):
    monkeypatch.setattr(TrackVisualizer, "_write_labels", lambda *args: None)


@pytest.mark.parametrize("dense", [False, True])
def test_pixels_change_on_mask_and_box_and_nowhere_else(frame, no_labels, dense):
    mask = np.zeros((120, 200), np.uint8)
    mask[30:90, 50:130] = np.tri(60, 80, dtype=np.uint8)
    instances = make_instances([mask], [4], [0.9], dense=dense)
    original = frame.copy()

    drawn = TrackVisualizer(("a",), mask_alpha=0.5).draw(frame, instances)

    np.testing.assert_array_equal(frame, original)
    box = np.zeros(mask.shape, bool)
    x1, y1, x2, y2 = instances.bboxes[0].int().tolist()
    box[y1 : y2 + 1, x1 : x2 + 1] = True
    box[y1 + 1 : y2, x1 + 1 : x2] = False
    inside = mask.astype(bool)
    untouched = ~inside & ~box
    np.testing.assert_array_equal(drawn[untouched], frame[untouched])
    color = np.array(track_color(4))
    assert (drawn[box] == color).all()
    inner = inside & ~box
    outline = inner & (drawn == color).all(axis=-1)
    blended = inner & ~outline
    np.testing.assert_allclose(drawn[blended], (frame[blended] + color) / 2, atol=1)
    # The outline is the mask's rim: each of its pixels has a neighbour outside of the mask.
    rows, columns = np.nonzero(outline)
    assert len(rows) > 60
    rims = [
        not mask[r - 1 : r + 2, c - 1 : c + 2].all() for r, c in zip(rows, columns, strict=True)
    ]
    assert all(rims)


def test_higher_score_is_on_top(frame, no_labels):
    low = rectangle_mask((120, 200), 20, 20, 100, 100)
    high = rectangle_mask((120, 200), 50, 40, 150, 80)
    for order in ([0, 1], [1, 0]):
        masks, ids, scores = [low, high], [0, 1], [0.5, 0.8]
        drawn = TrackVisualizer(("a",), mask_alpha=1.0).draw(
            frame,
            make_instances(
                [masks[i] for i in order], [ids[i] for i in order], [scores[i] for i in order]
            ),
        )
        assert tuple(drawn[60, 75]) == track_color(1)
        assert tuple(drawn[30, 30]) == track_color(0)


def test_annotations_have_no_scores_and_are_all_drawn(frame, monkeypatch):
    texts = []
    monkeypatch.setattr(
        TrackVisualizer, "_write_labels", lambda self, canvas, labels, *args: texts.extend(labels)
    )
    masks = [rectangle_mask((120, 200), x, 40, x + 30, 80) for x in (20, 35)]
    annotations = make_instances(masks, [0, 1], [0.0, 0.0])
    del annotations.scores
    drawn = TrackVisualizer(("a",), mask_alpha=1).draw(frame, annotations)
    assert texts == ["a 0", "a 1"]
    assert (drawn[60, 25] == track_color(0)).all()
    assert (drawn[60, 45] == track_color(1)).all()  # both are there: the later one is on top


def test_low_scores_and_empty_results_are_not_drawn(frame):
    mask = rectangle_mask((120, 200), 20, 20, 100, 100)
    visualizer = TrackVisualizer(("a",), score_thr=0.3)
    for instances in (make_instances([mask], [0], [0.29]), make_instances([], [], [])):
        drawn = visualizer.draw(frame, instances)
        np.testing.assert_array_equal(drawn, frame)
        assert drawn is not frame
    assert (visualizer.draw(frame, make_instances([mask], [0], [0.31])) != frame).any()


def test_instance_without_pixels_is_drawn_as_its_box(frame):
    instances = make_instances([np.zeros((120, 200), np.uint8)], [0], [0.9])
    instances.bboxes = torch.tensor([[20.0, 30.0, 60.0, 70.0]])
    drawn = TrackVisualizer(("a",)).draw(frame, instances)
    assert tuple(drawn[70, 40]) == track_color(0)
    np.testing.assert_array_equal(drawn[50, 40], frame[50, 40])


@pytest.mark.parametrize("shape", [(72, 96), (720, 1280), (1920, 1080), (2160, 3840), (20, 30)])
@pytest.mark.parametrize("corner", [(0, 0), (1, 1), (0, 1), (1, 0)])
def test_label_stays_in_the_frame_and_can_be_read(shape, corner):
    frame = np.full((*shape, 3), 128, np.uint8)
    height, width = shape
    y = [0, height - height // 8][corner[0]]
    x = [0, width - width // 8][corner[1]]
    mask = rectangle_mask(shape, x, y, x + width // 8, y + height // 8)
    instances = make_instances([mask], [3], [0.87], labels=[1])

    drawn = TrackVisualizer(("a", "triangle"), mask_alpha=0.0).draw(frame, instances)

    outside = np.ones(shape, bool)
    rim = 3 + min(shape) // 700  # of the box, whose lines are wider the larger the frame
    outside[max(y - rim, 0) : y + height // 8 + rim, max(x - rim, 0) : x + width // 8 + rim] = False
    changed = outside & (drawn != frame).any(axis=-1)
    rows = np.nonzero(changed.any(axis=1))[0]
    # Letters are a fixed part of the picture, and never so small that they melt.
    assert max(8, 0.025 * min(shape)) <= rows[-1] - rows[0] + 1 <= max(14, 0.05 * min(shape))
    label = drawn[changed].astype(int)
    ink = np.abs(label - label[0]).max(axis=1)
    assert label.max() - label.min() > 100 and 0.1 < (ink > 60).mean() < 0.6


def test_labels_avoid_each_other(frame):
    masks = [
        rectangle_mask((120, 200), 40, 60, 120, 90),
        rectangle_mask((120, 200), 42, 62, 120, 92),
    ]
    instances = make_instances(masks, [0, 1], [0.9, 0.8], labels=[0, 1])
    both = TrackVisualizer(("ball", "disc")).draw(frame, instances)
    # Above the boxes is the label of the higher score, below them the other's.
    assert (both[48:58, 44:70] == track_color(0)).all(axis=-1).mean() > 0.3
    assert (both[95:103, 44:70] == track_color(1)).all(axis=-1).mean() > 0.3


@pytest.mark.parametrize("shape", [(72, 96), (360, 640), (1080, 1920)])
def test_labels_of_a_crowd_are_all_seen(shape, monkeypatch):
    """Objects on one spot: their labels go apart, stay in the frame, and are tied to them."""
    written = []

    def record(canvas, text, corner, size, color, font):
        write_label(canvas, text, corner, size, color, font)
        x, y = corner
        right, bottom = x + text_width(text, size), y + text_height(size)
        written.append((slice(y, bottom), slice(x, right), canvas[y:bottom, x:right].copy()))

    monkeypatch.setattr(track_visualizer, "write_label", record)
    height, width = shape
    crowd = 4 if shape == (72, 96) else 12
    box = width // 2 - 9, height // 2 - 9, width // 2 + 9, height // 2 + 9
    masks = [rectangle_mask(shape, *box)] * crowd
    ids = list(range(crowd))
    scores = np.linspace(0.9, 0.5, crowd).tolist()
    instances = make_instances(masks, ids, scores, labels=ids)  # else they were duplicates
    frame = np.full((*shape, 3), 128, np.uint8)

    picture = TrackVisualizer(tuple("abcdefghijkl")).draw(frame, instances)

    assert len(written) == crowd
    for rows, columns, label in written:
        assert rows.stop <= height and columns.stop <= width
        np.testing.assert_array_equal(picture[rows, columns], label)  # nothing hides it


def test_label_that_stands_apart_is_tied_to_its_box(monkeypatch):
    frame = np.full((200, 300, 3), 128, np.uint8)
    instances = make_instances([rectangle_mask((200, 300), 200, 150, 250, 190)], [6], [0.9])
    for corner, is_tied in (((20, 30), True), ((200, 137), False)):
        monkeypatch.setattr(
            track_visualizer,
            "place_label",
            lambda size, *args, corner=corner: (*corner, corner[0] + size[0], corner[1] + size[1]),
        )
        picture = TrackVisualizer(("a",)).draw(frame, instances)
        color = (picture == track_color(6)).all(axis=-1)
        right, bottom = corner[0] + text_width("a 6 0.90", 10), corner[1] + text_height(10)
        color[corner[1] : bottom, corner[0] : right] = color[150:191, 200:251] = False
        assert color.any() == is_tied
        if is_tied:  # from the label's lower right corner to the box's upper left one
            x, y = (right + 200) // 2, (bottom + 150) // 2
            assert color[y - 2 : y + 3, x - 2 : x + 3].any()


@pytest.mark.parametrize("dense", [False, True])
def test_of_duplicates_the_surest_is_drawn(frame, dense):
    """Two boxes of 0.9 mask IoU: one of a class, both of two classes, both of annotations."""
    masks = [
        rectangle_mask((120, 200), 40, 60, 80, 90),
        rectangle_mask((120, 200), 42, 60, 80, 90),
    ]

    def drawn_ids(instances):
        picture = TrackVisualizer(("a", "b"), labels="none").draw(frame, instances)
        return [i for i in (0, 1) if (picture[60:91, 40:81] == track_color(i)).all(-1).any()]

    same = make_instances(masks, [0, 1], [0.8, 0.9], dense=dense)
    assert drawn_ids(same) == [1]
    assert drawn_ids(make_instances(masks, [0, 1], [0.8, 0.9], [0, 1], dense)) == [0, 1]
    del same.scores
    assert drawn_ids(same) == [0, 1]


@pytest.mark.parametrize(
    ("labels", "written"),
    [("full", "cat 7 0.90"), ("class", "cat"), ("id", "7"), ("none", None)],
)
def test_labels_name_what_is_asked_for(frame, monkeypatch, labels, written):
    texts = []
    monkeypatch.setattr(track_visualizer, "write_label", lambda *args: texts.append(args[1]))
    instances = make_instances([rectangle_mask((120, 200), 40, 60, 80, 90)], [7], [0.9])
    TrackVisualizer(("cat",), labels=labels).draw(frame, instances)
    assert texts == ([] if written is None else [written])


def test_unknown_labels_are_named():
    with pytest.raises(ValueError, match="labels is 'name'; there are id, class, full, none"):
        TrackVisualizer(("cat",), labels="name")


def test_mask_of_another_size_is_refused(frame):
    instances = make_instances([rectangle_mask((60, 100), 2, 2, 9, 9)], [0], [0.9])
    with pytest.raises(ValueError, match=r"\(60, 100\).*\(120, 200\)"):
        TrackVisualizer(("a",)).draw(frame, instances)


@pytest.mark.parametrize("enlarge", [2, 3, 5])
def test_enlarged_picture_is_the_frame_and_its_tracks_larger(frame, no_labels, enlarge):
    mask = np.zeros((120, 200), np.uint8)
    mask[30:90, 50:130] = np.tri(60, 80, dtype=np.uint8)
    instances = make_instances([mask], [4], [0.9])

    drawn = TrackVisualizer(("a",), mask_alpha=1.0, enlarge=enlarge).draw(frame, instances)

    assert drawn.shape == (enlarge * 120, enlarge * 200, 3) and drawn.dtype == np.uint8
    inside = np.kron(mask, np.ones((enlarge, enlarge), np.uint8)).astype(bool)
    assert (drawn[inside] == track_color(4)).all()
    box = (enlarge * instances.bboxes[0]).int().tolist()
    assert (drawn[box[1], box[0] : box[2]] == track_color(4)).all()
    # What is far from the track is the frame: back at its size it is the same but for rounding.
    small = cv2.resize(drawn, (200, 120), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small[:, 135:] - frame[:, 135:]).mean() < 40


def test_label_covers_less_of_an_enlarged_picture():
    """On a small frame a legible label hides what it names; drawn larger it is a small part."""

    class Unlabelled(TrackVisualizer):
        def _write_labels(self, *args):
            pass

    small = np.full((96, 128, 3), 128, np.uint8)
    instances = make_instances([rectangle_mask((96, 128), 40, 40, 70, 70)], [3], [0.87])
    covered = []
    for enlarge in (1, 3, 8):
        with_label, without = (
            kind(("triangle",), enlarge=enlarge).draw(small, instances)
            for kind in (TrackVisualizer, Unlabelled)
        )
        changed = (with_label != without).any(axis=-1)
        rows, columns = np.nonzero(changed)
        assert rows.max() - rows.min() + 1 >= 8
        covered.append((columns.max() - columns.min() + 1) / changed.shape[1])
    assert covered[0] > 0.5 and covered[1] < 0.5 * covered[0] and covered[2] < 0.35


@pytest.mark.parametrize(
    ("size", "times"),
    [((64, 48), 6), ((640, 480), 1), ((4000, 2), 1), ((1, 1), 256)],
)
def test_small_frames_are_enlarged_and_thin_ones_not_without_end(size, times):
    assert track_visualizer.default_enlargement(size) == times
