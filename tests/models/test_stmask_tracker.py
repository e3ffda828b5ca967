"""STMask's detections and online tracker, against hand-computed examples."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmengine.structures import InstanceData

from mmvis_plugin.models import STMaskTracker
from mmvis_plugin.models.stmask.detections import at_original_size, detect
from mmvis_plugin.models.stmask.head import HeadOutputs

CODER = DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2), clip_border=False)
GRID = (8, 10)


def box_mask(box):
    mask = torch.zeros(GRID)
    x1, y1, x2, y2 = box
    mask[round(y1 * 8) : round(y2 * 8), round(x1 * 10) : round(x2 * 10)] = 0.9
    return mask


def detections(boxes, scores, directions, labels=None):
    """Instances whose masks fill their boxes and whose embeddings are unit vectors."""
    count = len(boxes)
    return InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.tensor(labels or [0] * count, dtype=torch.long),
        coeffs=torch.arange(count * 2.0).reshape(-1, 2),
        embeddings=F.one_hot(torch.tensor(directions, dtype=torch.long), 4).float(),
        masks=torch.stack([box_mask(box) for box in boxes]) if count else torch.zeros(0, *GRID),
    )


LEFT, RIGHT = [0.0, 0.0, 0.4, 0.5], [0.6, 0.5, 1.0, 1.0]
LEFT_MOVED = [0.1, 0.0, 0.5, 0.5]  # IoU of boxes and masks with LEFT: 3 / 5


@pytest.fixture
def known():
    tracker = STMaskTracker()
    tracks, num_ids = tracker.associate(detections([LEFT, RIGHT], [0.9, 0.8], [0, 1]), None, 0)
    assert tracks.ids.tolist() == [0, 1] and tracks.gaps.tolist() == [0, 0] and num_ids == 2
    tracks.gaps = tracks.gaps + 1
    return tracker, tracks


def test_similarity(known):
    tracker, tracks = known
    similarity = tracker.similarity(detections([LEFT_MOVED, RIGHT], [0.5, 0.5], [0, 2]), tracks)
    dummy = 0.5 + 0.3 + 2 * 0.3
    expected = [
        [dummy, (1 + 1) / 2 + 0.6 + 2 * 0.6, (0 + 1) / 2],
        [dummy, (0 + 1) / 2, (0 + 1) / 2 + 1 + 2 * 1],
    ]
    torch.testing.assert_close(similarity, torch.tensor(expected))


def test_boxes_of_a_few_ten_thousandths_of_the_frame_overlap_too():
    """Fractions of the frame: MMDetection's functions take areas below 1e-6 for none."""
    tiny = detections([[0.5, 0.5, 0.5002, 0.5004]], [0.9], [0])  # 0.3 square pixels of 640 x 384
    tracker = STMaskTracker(mask_weight=0.0, box_weight=1.0, dummy_iou=0.0)
    similarity = tracker.similarity(tiny, tiny)
    torch.testing.assert_close(similarity, torch.tensor([[0.5, 2.0]]), rtol=0, atol=1e-3)


def test_matched_dropped_opened_and_carried_on(known):
    """Two detections want instance 0, one opens an identity, instance 1 has none."""
    tracker, tracks = known
    found = detections(
        [LEFT_MOVED, LEFT, [0.0, 0.5, 0.2, 1.0]], [0.6, 0.7, 0.5], [0, 0, 3], labels=[1, 2, 3]
    )
    merged, num_ids = tracker.associate(found, tracks, 2)
    assert merged.ids.tolist() == [0, 1, 2] and num_ids == 3
    assert merged.gaps.tolist() == [0, 1, 0]
    assert merged.scores.tolist() == pytest.approx([0.7, 0.8, 0.5])  # the higher score won
    assert merged.labels.tolist() == [2, 0, 3]
    assert merged.coeffs.tolist() == [[2, 3], [2, 3], [4, 5]]


def test_a_detection_alike_by_less_than_the_dummy_opens_an_identity(known):
    tracker, tracks = known
    apart = detections([[0.0, 0.5, 0.4, 1.0]], [0.9], [0])  # same embedding: 1 < 1.4
    merged, num_ids = tracker.associate(apart, tracks, 2)
    assert merged.ids.tolist() == [0, 1, 2] and num_ids == 3


def test_identities_are_not_reused_after_instances_are_forgotten(known):
    _, tracks = known
    tracker = STMaskTracker(max_gap=3)
    tracks.gaps = torch.tensor([4, 3])
    merged, num_ids = tracker.associate(detections([], [], []), tracks, 2)
    assert merged.ids.tolist() == [1]
    merged, num_ids = tracker.associate(detections([LEFT], [0.9], [2]), merged, num_ids)
    assert merged.ids.tolist() == [1, 2] and num_ids == 3


def test_an_instance_without_a_box_is_forgotten(known):
    tracker, tracks = known
    tracks.bboxes[1, 2] = torch.inf
    carried, num_ids = tracker.associate(detections([], [], []), tracks, 2)
    assert carried.ids.tolist() == [0] and num_ids == 2


def test_no_instances_and_no_detections():
    tracker = STMaskTracker()
    tracks, num_ids = tracker.associate(detections([], [], []), None, 0)
    assert len(tracks) == 0 and num_ids == 0 and tracker.shown(tracks, 10).shape == (0,)
    tracks, num_ids = tracker.associate(detections([], [], []), tracks, num_ids)
    tracks, num_ids = tracker.associate(detections([LEFT], [0.9], [0]), tracks, num_ids)
    assert tracks.ids.tolist() == [0] and num_ids == 1


def test_shown():
    boxes = [LEFT] * 5
    tracks = detections(boxes, [0.06, 0.05, 0.9, 0.9, 0.9], [0] * 5)
    tracks.gaps = torch.tensor([10, 0, 11, 0, 0])
    tracks.masks[3] = 0
    tracks.masks[3, 0, 0] = 0.9  # one cell is not enough
    tracks.masks[4] = 0
    tracks.masks[4, 0, :2] = 0.9
    assert STMaskTracker().shown(tracks, 10).tolist() == [True, False, False, False, True]
    assert STMaskTracker().shown(tracks, 0).tolist() == [False, False, False, False, True]


# --- detections ----------------------------------------------------------------------------------


def random_outputs(seed, num_anchors, num_classes=3):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=generator)

    corners, sizes = draw(num_anchors, 2) * 0.6, draw(num_anchors, 2) * 0.4 + 0.05
    return HeadOutputs(
        deltas=draw(1, num_anchors, 4) - 0.5,
        logits=draw(1, num_anchors, num_classes + 1) * 4,
        coeffs=draw(1, num_anchors, 3),
        embeddings=draw(1, num_anchors, 4),
        centerness=draw(1, num_anchors) * 2 - 1,
        priors=torch.cat([corners, corners + sizes], 1),
        features=(),
        prototypes=draw(1, 3, *GRID),
    )


def box_iou(a, b):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def fast_nms_by_definition(boxes, scores, iou_thr, top_k):
    """Rows that no better one overlaps too much, whether that is suppressed or not."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[:top_k]
    return [
        row
        for rank, row in enumerate(order)
        if all(box_iou(boxes[row], boxes[better]) <= iou_thr for better in order[:rank])
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), num_anchors=st.integers(0, 40), top_k=st.sampled_from([5, 200]))
def test_fast_nms_across_classes(seed, num_anchors, top_k):
    outputs = random_outputs(seed, num_anchors)
    found = detect(outputs, 0, CODER, score_thr=0.3, iou_thr=0.5, top_k=top_k)
    probabilities = outputs.logits[0].softmax(-1)[:, 1:]
    kept = [i for i in range(num_anchors) if probabilities[i].max() > 0.3]
    scores = [float(probabilities[i].max() * outputs.centerness[0, i]) for i in kept]
    boxes = CODER.decode(outputs.priors, outputs.deltas[0])
    rows = fast_nms_by_definition([boxes[i].tolist() for i in kept], scores, 0.5, top_k)
    assert found.scores.tolist() == pytest.approx([scores[row] for row in rows])
    for n, row in enumerate(rows):
        anchor = kept[row]
        torch.testing.assert_close(found.bboxes[n], boxes[anchor])
        assert found.labels[n] == probabilities[anchor].argmax()
        assert torch.equal(found.coeffs[n], outputs.coeffs[0, anchor])
        assert torch.equal(found.embeddings[n], outputs.embeddings[0, anchor])


def test_a_suppressed_box_suppresses():
    """What tells fast NMS from the usual one: a chain loses all but its first link."""
    outputs = random_outputs(0, 3)
    outputs.deltas.zero_()
    outputs.priors[:] = torch.tensor(
        [[0.0, 0.0, 0.3, 0.4], [0.08, 0.0, 0.38, 0.4], [0.16, 0.0, 0.46, 0.4]]
    )
    outputs.logits[0] = torch.tensor([[0.0, 4, 0, 0], [0, 3, 0, 0], [0, 2, 0, 0]])
    outputs.centerness.fill_(1)
    assert len(detect(outputs, 0, CODER, 0.05, 0.5, 200)) == 1


def test_fast_nms_by_class():
    outputs = random_outputs(3, 30)
    found = detect(outputs, 0, CODER, 0.1, 0.5, top_k=20, max_per_img=8, class_agnostic=False)
    probabilities = outputs.logits[0].softmax(-1)[:, 1:]
    kept = [i for i in range(30) if probabilities[i].max() > 0.1]
    boxes = CODER.decode(outputs.priors, outputs.deltas[0])
    expected = []
    for label in range(3):
        scores = [float(probabilities[i, label] * outputs.centerness[0, i]) for i in kept]
        rows = fast_nms_by_definition([boxes[i].tolist() for i in kept], scores, 0.5, 20)
        expected += [(scores[row], label) for row in rows if scores[row] > 0.1]
    expected = sorted(expected, reverse=True)[:8]
    assert len(expected) == 8
    assert found.scores.tolist() == pytest.approx([score for score, _ in expected])
    assert found.labels.tolist() == [label for _, label in expected]


def test_original_size():
    """A frame of 20 x 40 scaled to 60 x 120 and padded to 64 x 128, masks on a grid of 16 x 32."""
    meta = dict(img_shape=(60, 120), ori_shape=(20, 40))
    boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.8, 0.5, 1.2, 1.0], [0.9, 0.2, 0.99, 0.4]])
    masks = torch.zeros(3, 16, 32)
    masks[0, 4:8, 8:16] = 1
    instances = InstanceData(bboxes=boxes, masks=masks, ids=torch.arange(3))
    result = at_original_size(instances, (64, 128), meta)
    # Centres at 1.0 and 0.945 of the padded width: the picture ends at 0.9375.
    assert result.ids.tolist() == [0]
    scale = [128 / 120 * 40, 64 / 60 * 20] * 2
    expected = [value * factor for value, factor in zip(boxes[0].tolist(), scale, strict=True)]
    assert result.bboxes[0].tolist() == pytest.approx(expected)
    unpadded = F.interpolate(masks[None, :1, :15, :30], (20, 40), mode="bilinear")[0, 0]
    assert torch.equal(result.masks[0], unpadded > 0.5)


def test_boxes_are_clipped_to_the_picture():
    meta = dict(img_shape=(64, 128), ori_shape=(32, 64))
    instances = InstanceData(
        bboxes=torch.tensor([[-0.5, -0.1, 0.6, 1.4]]), masks=torch.ones(1, 16, 32)
    )
    assert at_original_size(instances, (64, 128), meta).bboxes[0].tolist() == pytest.approx(
        [0, 0, 38.4, 32]
    )
