"""STMask's matching and losses, each against its plain form."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from mmvis_plugin.models.stmask.head import HeadOutputs
from mmvis_plugin.models.stmask.losses import (
    STMaskLoss,
    embedding_loss,
    mask_loss,
    ohem_loss,
)
from mmvis_plugin.models.stmask.matching import (
    Matches,
    Targets,
    collect_targets,
    match_anchors,
    match_batch,
)
from mmvis_plugin.models.stmask.stmask import _identities, objects_in_next_frame

CODER = DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2), clip_border=False)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def iou(a, b):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def diou(a, b):
    centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (a, b)]
    distance = sum((p - q) ** 2 for p, q in zip(*centres, strict=True))
    wide = max(a[2], b[2]) - min(a[0], b[0])
    high = max(a[3], b[3]) - min(a[1], b[1])
    return iou(a, b) - distance / (wide**2 + high**2)


# --- matching ------------------------------------------------------------------------------------

OBJECT = [0.2, 0.2, 0.4, 0.4]


def beside(share):
    """The object's box moved to the right, so that this share of it still overlaps."""
    return [0.2 + 0.2 * (1 - share), 0.2, 0.4 + 0.2 * (1 - share), 0.4]


def overlap_to_share(overlap):
    return 2 * overlap / (1 + overlap)


def match(anchors, logits=None, boxes=(OBJECT,), labels=(0,)):
    anchors = torch.tensor(anchors)
    logits = torch.zeros(len(anchors), 4) if logits is None else torch.tensor(logits)
    return match_anchors(anchors, logits, torch.tensor(boxes), torch.tensor(labels), 0.5, 0.4)


def test_thresholds_of_overlap():
    """All classify alike, so that refinement changes nothing."""
    overlaps = [1.0, 0.55, 0.51, 0.49, 0.41, 0.39, 0.1]
    anchors = [beside(overlap_to_share(overlap)) for overlap in overlaps]
    labels, objects = match(anchors, labels=(2,))
    assert labels.tolist() == [3, 3, 3, -1, -1, 0, 0]
    assert objects.tolist() == [0] * 7


def test_anchors_of_two_objects_are_neutral():
    boxes = [[0.2, 0.2, 0.4, 0.4], [0.22, 0.2, 0.42, 0.4]]
    anchors = [boxes[0], boxes[1], [0.21, 0.2, 0.41, 0.4], [0.7, 0.7, 0.9, 0.9]]
    labels, objects = match(anchors, boxes=boxes, labels=(0, 1))
    # Each object keeps its best anchor; the one between them fits both.
    assert labels.tolist() == [1, 2, -1, 0]
    assert objects[:2].tolist() == [0, 1]


def test_classification_refines_the_choice():
    """IoU + s against the thresholds + mean(s), with s = 2 / (1 + exp(CE))."""
    anchors = [OBJECT, *(beside(overlap_to_share(o)) for o in (0.6, 0.6, 0.6, 0.6))]
    logits = [[0.0, 0, 0, 0], [0, 5, 0, 0], [0, 0, 0, 0], [5, 0, 0, 0], [1, 0, 0, 0]]
    labels, _ = match(anchors, logits)
    errors = [math.log(sum(math.exp(v) for v in row)) - row[1] for row in logits]
    scores = [2 / (1 + math.exp(error)) for error in errors]
    mean = sum(scores) / 5
    expected = [1]  # the best anchor is kept whatever it classifies
    for score in scores[1:]:
        quality = 0.6 + score - mean
        expected.append(1 if quality >= 0.5 else -1 if quality >= 0.4 else 0)
    assert labels.tolist() == expected
    assert set(expected) == {1, 0, -1}


def test_every_object_gets_its_best_anchor_best_pairs_first():
    boxes = [[0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.3]]
    anchors = [[0.0, 0.0, 0.4, 0.31], [0.0, 0.0, 0.9, 0.9], [0.5, 0.5, 0.9, 0.9]]
    labels, objects = match(anchors, boxes=boxes, labels=(0, 1))
    # Both prefer the first anchor; the second object overlaps it more.
    assert labels.tolist() == [2, 1, 0]
    assert objects[:2].tolist() == [1, 0]


def test_a_frame_without_objects_is_background():
    labels, _ = match_anchors(
        torch.rand(5, 4), torch.zeros(5, 3), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    )
    assert labels.tolist() == [0] * 5


def test_no_object_waits_for_the_gpu():
    """Objects are given their anchors without a number that Python must know: each stops a GPU."""

    class CountNumbers(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function is torch.ops.aten._local_scalar_dense.default
            return function(*args, **(kwargs or {}))

    corners = torch.rand(40, 2) * 0.7
    boxes = torch.cat([corners, corners + 0.2], 1)
    ids = torch.arange(5)
    frame = DetDataSample(gt_instances=InstanceData(instances_ids=ids))
    sample = TrackDataSample(video_data_samples=[frame, frame])
    with CountNumbers() as numbers:
        match_anchors(boxes, torch.randn(40, 4), boxes[:5], torch.zeros(5, dtype=torch.long))
        _identities([sample, sample])
    assert numbers.count == 0


def test_matches_of_a_batch():
    priors = torch.tensor([OBJECT, beside(0.9), [0.6, 0.6, 0.8, 0.8]])
    targets = Targets(
        boxes=torch.tensor([[0.6, 0.6, 0.8, 0.8], OBJECT, [0.6, 0.6, 0.8, 0.8]]),
        labels=torch.tensor([1, 0, 2]),
        masks=torch.zeros(3, 4, 4),
        frames=torch.tensor([0, 2, 2]),
        identities=torch.arange(3),
        num_frames=3,
    )
    matches = match_batch(priors, torch.zeros(3, 3, 4), targets, 0.5, 0.4)
    assert matches.labels.tolist() == [[0, 0, 2], [0, 0, 0], [1, 1, 3]]
    assert matches.frames.tolist() == [0, 2, 2, 2]
    assert matches.anchors.tolist() == [2, 0, 1, 2]
    assert matches.objects.tolist() == [0, 1, 1, 2]
    torch.testing.assert_close(matches.weights, torch.tensor([1 / 3, 1 / 9, 1 / 9, 1 / 9]))


# --- single losses -------------------------------------------------------------------------------


def matches_of(labels, objects=None):
    labels = torch.tensor(labels)
    frames, anchors = (labels > 0).nonzero(as_tuple=True)
    counts = torch.bincount(frames, minlength=len(labels))
    objects = torch.zeros_like(frames) if objects is None else torch.tensor(objects)
    return Matches(labels, frames, anchors, objects, 1 / (counts[frames] * len(labels)).float())


def test_ohem_takes_the_hardest_background_and_no_neutral_anchor():
    logits = torch.randn(2, 9, 4)
    labels = [[1, 0, 0, -1, 0, 0, 0, -1, 0], [3, 2, 0, 0, -1, 0, 0, 0, 0]]
    logits[0, 3] = torch.tensor([-9.0, 9, 0, 0])  # neutral, and harder than all background
    errors = [
        [math.log(sum(math.exp(v) for v in row)) - row[max(label, 0)] for row, label in pairs]
        for pairs in (zip(logits[i].tolist(), labels[i], strict=True) for i in (0, 1))
    ]
    positive = (errors[0][0] + (errors[1][0] + errors[1][1]) / 2) / 2
    background = sorted(
        (e for i in (0, 1) for e, label in zip(errors[i], labels[i], strict=True) if label == 0),
        reverse=True,
    )
    negative = sum(background[:9]) / 9
    loss = ohem_loss(logits, matches_of(labels), 3)
    assert loss.item() == pytest.approx((positive + 3 * negative) / 4, rel=1e-5)


def test_ohem_weighs_each_frame_alike():
    """Weights stay with their anchors: a frame's one object counts as the other frame's three."""
    logits = torch.zeros(2, 20, 4)
    logits[0, 0, 1] = -5  # the only badly classified anchor
    labels = torch.zeros(2, 20, dtype=torch.long)
    labels[0, 0], labels[1, :3] = 1, 1
    bad = F.cross_entropy(logits[0, :1], torch.tensor([1])).item()
    fine = math.log(4)
    loss = ohem_loss(logits, matches_of(labels.tolist()), 3)
    assert loss.item() == pytest.approx(((bad + fine) / 2 + 3 * fine) / 4, rel=1e-5)


def test_ohem_without_objects_still_learns_background():
    logits = torch.randn(2, 9, 4, requires_grad=True)
    ohem_loss(logits, matches_of([[0] * 9] * 2), 3).backward()
    assert (logits.grad.abs().sum(-1) > 0).sum() == 3


def test_embeddings_of_all_pairs():
    embeddings = F.normalize(torch.randn(5, 6), dim=1)
    identities, weights = [3, 3, 7, 3, 8], [0.5, 0.5, 1.0, 0.25, 0.25]
    total, loss = 0.0, 0.0
    for i in range(5):
        for j in range(i):
            cosine = float(embeddings[i] @ embeddings[j])
            same = identities[i] == identities[j]
            weight = weights[i] * weights[j]
            loss -= weight * math.log((1 + cosine) / 2 if same else (1 - cosine) / 2)
            total += weight
    result = embedding_loss(embeddings, torch.tensor(identities), torch.tensor(weights))
    assert result.item() == pytest.approx(loss / total, rel=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_embeddings_without_pairs(count):
    embeddings = F.normalize(torch.randn(count, 6), dim=1).requires_grad_()
    loss = embedding_loss(embeddings, torch.zeros(count), torch.ones(count))
    loss.backward()
    assert loss == 0 and embeddings.grad.isfinite().all()


def test_equal_embeddings_of_different_objects_give_a_finite_loss():
    embeddings = F.normalize(torch.ones(2, 6), dim=1).requires_grad_()
    loss = embedding_loss(embeddings, torch.tensor([0, 1]), torch.ones(2))
    loss.backward()
    assert loss.isfinite() and embeddings.grad.isfinite().all()


def test_masks_are_compared_where_the_cropped_ones_reach():
    """Cropped at prototype resolution, then interpolated: pixels count where that is not zero."""
    prototypes, coeffs = torch.rand(2, 3, 8, 12), torch.randn(3, 3)
    masks = (torch.rand(2, 16, 24) > 0.5).float()
    frames, objects = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1])
    boxes = torch.tensor([[0.3, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.301, 0.301]])
    losses = mask_loss(prototypes, coeffs, frames, masks, objects, boxes)
    for n in range(3):
        cells = torch.einsum("m,mhw->hw", coeffs[n].tanh(), prototypes[frames[n]]).sigmoid()
        x1, y1, x2, y2 = (boxes[n] * torch.tensor([12, 8, 12, 8])).tolist()
        for y in range(8):
            for x in range(12):
                if not (x1 - 1 <= x < x2 + 1 and y1 - 1 <= y < y2 + 1):
                    cells[y, x] = 0
        soft = F.interpolate(cells[None, None], (16, 24), mode="bilinear")[0, 0]
        total = sum(
            -math.log(p if m else 1 - p)
            for p, m in zip(
                soft.flatten().tolist(), masks[objects[n]].flatten().tolist(), strict=True
            )
            if p > 0
        )
        area = max(2 * (x2 - x1), 1) * max(2 * (y2 - y1), 1)
        assert losses[n].item() == pytest.approx(total / area, rel=1e-4)


def test_masks_learn_to_end_with_a_small_object():
    """In the band beyond the box, where the prediction is not zero, it is punished."""
    prototypes = torch.rand(1, 3, 8, 12, requires_grad=True)
    masks, box = torch.zeros(1, 64, 96), torch.tensor([[4 / 12, 2 / 8, 8 / 12, 6 / 8]])
    masks[:, 16:48, 32:64] = 1
    first = torch.zeros(1, dtype=torch.long)
    coeffs = torch.ones(1, 3)
    mask_loss(prototypes, coeffs, first, masks, first, box).sum().backward()
    trained = prototypes.grad[0, 0]
    assert (trained[3:5, 5:7] < 0).all()  # the object
    assert (trained[1, 3:9] > 0).all() and (trained[6, 3:9] > 0).all()  # the margin
    outside = torch.ones(8, 12, dtype=torch.bool)
    outside[1:7, 3:9] = False
    assert not trained[outside].any()


# --- all of a frame ------------------------------------------------------------------------------


def random_outputs(num_frames=2, grad=True):
    priors = torch.tensor([OBJECT, beside(0.8), [0.5, 0.5, 0.9, 0.9], [0.0, 0.7, 0.2, 0.9]])
    count = len(priors)
    outputs = HeadOutputs(
        deltas=torch.randn(num_frames, count, 4),
        logits=torch.randn(num_frames, count, 4),
        coeffs=torch.randn(num_frames, count, 3),
        embeddings=F.normalize(torch.randn(num_frames, count, 5), dim=-1),
        centerness=torch.rand(num_frames, count),
        priors=priors,
        features=(),
        prototypes=torch.rand(num_frames, 3, 6, 8),
    )
    if grad:
        for name in ("deltas", "logits", "coeffs", "embeddings", "centerness", "prototypes"):
            getattr(outputs, name).requires_grad_()
    return outputs


def random_targets():
    return Targets(
        boxes=torch.tensor([OBJECT, [0.5, 0.5, 0.95, 0.9], OBJECT]),
        labels=torch.tensor([0, 2, 0]),
        masks=(torch.rand(3, 12, 16) > 0.5).float(),
        frames=torch.tensor([0, 0, 1]),
        identities=torch.tensor([0, 1, 0]),
        num_frames=2,
    )


def test_boxes_and_centerness_follow_diou():
    outputs, targets = random_outputs(), random_targets()
    losses, matches = STMaskLoss()(outputs, targets, CODER)
    box_losses, centerness_losses = [[], []], [[], []]
    for frame, anchor, target in zip(
        matches.frames.tolist(), matches.anchors.tolist(), matches.objects.tolist(), strict=True
    ):
        x1, y1, x2, y2 = outputs.priors[anchor].tolist()
        dx, dy, dw, dh = outputs.deltas[frame, anchor].tolist()
        cx = (x1 + x2) / 2 + 0.1 * dx * (x2 - x1)
        cy = (y1 + y2) / 2 + 0.1 * dy * (y2 - y1)
        w, h = (x2 - x1) * math.exp(0.2 * dw), (y2 - y1) * math.exp(0.2 * dh)
        box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        value = diou(box, targets.boxes[target].tolist())
        box_losses[frame].append(1 - value)
        error = abs(outputs.centerness[frame, anchor].item() - value)
        centerness_losses[frame].append(error**2 / 2 if error < 1 else error - 0.5)

    def mean(values):
        return sum(sum(frame) / len(frame) for frame in values) / 2

    assert losses["loss_bbox"].item() == pytest.approx(5 * mean(box_losses), rel=1e-4)
    assert losses["loss_centerness"].item() == pytest.approx(20 * mean(centerness_losses), rel=1e-4)


def test_masks_are_cropped_by_the_enlarged_predicted_box():
    outputs, targets = random_outputs(), random_targets()
    losses, matches = STMaskLoss()(outputs, targets, CODER)
    chosen = matches.frames, matches.anchors
    boxes = CODER.decode(outputs.priors[matches.anchors], outputs.deltas[chosen]).detach()
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    enlarged = boxes + torch.stack([-wide, -high, wide, high], 1) / 10
    expected = mask_loss(
        outputs.prototypes,
        outputs.coeffs[chosen],
        matches.frames,
        targets.masks,
        matches.objects,
        enlarged.clamp(1e-5, 1),
    )
    total = 6.125 * (expected * matches.weights).sum()
    torch.testing.assert_close(losses["loss_mask"], total)


def gradients(loss, outputs):
    names = ("deltas", "logits", "coeffs", "embeddings", "centerness", "prototypes")
    tensors = [getattr(outputs, name) for name in names]
    found = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
    return {
        name for name, grad in zip(names, found, strict=True) if grad is not None and grad.any()
    }


def test_what_each_loss_trains():
    outputs = random_outputs()
    losses, _ = STMaskLoss()(outputs, random_targets(), CODER)
    assert gradients(losses["loss_bbox"], outputs) == {"deltas"}
    assert gradients(losses["loss_cls"], outputs) == {"logits"}
    assert gradients(losses["loss_centerness"], outputs) == {"centerness"}  # the box is its target
    assert gradients(losses["loss_mask"], outputs) == {"coeffs", "prototypes"}
    assert gradients(losses["loss_track"], outputs) == {"embeddings"}


def test_a_batch_without_objects():
    outputs = random_outputs()
    nothing = Targets(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.long),
        masks=torch.zeros(0, 12, 16),
        frames=torch.zeros(0, dtype=torch.long),
        identities=torch.zeros(0, dtype=torch.long),
        num_frames=2,
    )
    losses, _ = STMaskLoss()(outputs, nothing, CODER)
    sum(losses.values()).backward()
    assert losses["loss_cls"] > 0
    assert all(losses[f"loss_{key}"] == 0 for key in ("bbox", "centerness", "mask", "track"))
    for name in ("deltas", "coeffs", "embeddings", "centerness", "prototypes"):
        grad = getattr(outputs, name).grad  # takes part, as distributed training expects
        assert grad is not None and not grad.any(), name


# --- pairs of frames -----------------------------------------------------------------------------


def frame_of(ids, boxes, size=(12, 16)):
    frame = DetDataSample()
    frame.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
        labels=torch.zeros(len(ids), dtype=torch.long),
        masks=BitmapMasks([torch.ones(size).numpy() for _ in ids], *size),
        instances_ids=torch.tensor(ids, dtype=torch.long),
    )
    return frame


def test_objects_are_known_by_video_and_identity():
    box = [0, 0, 8, 6]
    pairs = []
    for ids in (([4, 0], [0]), ([], [2]), ([0, 2], [2, 0])):
        sample = TrackDataSample()
        sample.video_data_samples = [frame_of(some, [box] * len(some)) for some in ids]
        pairs.append(sample)
    identities = _identities(pairs)
    images = torch.zeros(6, 3, 12, 16)
    frames = [frame for sample in pairs for frame in sample.video_data_samples]
    targets = collect_targets(frames, identities, images)
    assert targets.frames.tolist() == [0, 0, 1, 3, 4, 4, 5, 5]
    assert targets.identities.unique().numel() == 5  # 0 and 4; 2; 0 and 2
    assert objects_in_next_frame(targets).tolist() == [-1, 2, -1, -1, 7, 6, -1, -1]
    assert targets.boxes[0].tolist() == [0, 0, 0.5, 0.5]
    assert targets.masks.shape == (8, 12, 16)
