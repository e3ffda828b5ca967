"""EfficientVIS's matching and losses, against Eq. 4 and 5 in loops, and the second clip's."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmvis_plugin.models.efficientvis.criterion import first_frames, tracklets
from mmvis_plugin.models.efficientvis.match_costs import crop_all_masks, crop_masks
from mmvis_plugin.models.efficientvis.tracklet_head import TrackletPredictions

B, N, T, CLASSES, M = 2, 5, 4, 3, 7
HEIGHT, WIDTH = 48, 64
BACKGROUND_WEIGHT = 0.1
WEIGHTS = dict(cls=2.0, l1=5.0, giou=2.0, mask=3.0)
MATCH_COSTS = [
    dict(type="TrackletClassCost", weight=WEIGHTS["cls"]),
    dict(type="TrackletL1Cost", weight=WEIGHTS["l1"]),
    dict(type="TrackletGIoUCost", weight=WEIGHTS["giou"]),
    dict(type="TrackletMaskIoUCost", weight=WEIGHTS["mask"]),
]
SIZES = torch.tensor([[HEIGHT, WIDTH], [HEIGHT - 8, WIDTH]]).float()


@pytest.fixture(scope="module")
def criterion():
    init_default_scope("mmdet")
    return MODELS.build(
        dict(
            type="TrackletCriterion",
            assigner=dict(type="HungarianAssigner", match_costs=MATCH_COSTS),
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=2.0),
            loss_bbox=dict(type="L1Loss", loss_weight=5.0),
            loss_iou=dict(type="GIoULoss", loss_weight=2.0),
            loss_mask=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=3.0),
            loss_dice=dict(type="DiceLoss", activate=True, eps=1e-5, loss_weight=8.0),
            background_weight=BACKGROUND_WEIGHT,
        )
    )


def random_boxes(generator, *shape):
    corner = torch.rand(*shape, 2, generator=generator) * torch.tensor([30.0, 20.0])
    size = 6 + torch.rand(*shape, 2, generator=generator) * 20
    return torch.cat([corner, corner + size], -1)


def predictions(seed=0, num_frames=T):
    g = torch.Generator().manual_seed(seed)
    return TrackletPredictions(
        logits=torch.randn(B, N, num_frames, CLASSES + 1, generator=g).requires_grad_(),
        boxes=random_boxes(g, B, N, num_frames).requires_grad_(),
        masks=torch.randn(B, N, num_frames, M, M, generator=g).requires_grad_(),
        mask_boxes=random_boxes(g, B, N, num_frames),
    )


def target(labels, present, seed=0):
    """Instances with a box at random and a mask that fills it where they are present."""
    present = torch.tensor(present, dtype=torch.bool).reshape(len(labels), T)
    g = torch.Generator().manual_seed(seed)
    boxes = random_boxes(g, *present.shape).round() * present[..., None]
    masks = torch.zeros(*present.shape, HEIGHT, WIDTH, dtype=torch.uint8)
    for i, t in present.nonzero().tolist():
        x1, y1, x2, y2 = boxes[i, t].int().tolist()
        masks[i, t, y1:y2, x1:x2] = 1
    return InstanceData(
        labels=torch.tensor(labels).long(), present=present, bboxes=boxes, masks=masks
    )


TARGETS = [
    target([1, 0], [[1, 1, 0, 1], [0, 1, 1, 1]], seed=1),
    target([2, 2, 1], [[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 1, 0]], seed=2),
]


def giou(a, b):
    """Of two boxes, from its definition."""
    inter = math.prod(max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    hull = math.prod(max(a[k + 2], b[k + 2]) - min(a[k], b[k]) for k in (0, 1))
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    union = sum(area) - inter
    return inter / union - (hull - union) / hull


def crop_by_hand(mask, box):
    """(M, M) share of the mask at four points in each cell, at least one half."""
    crop = torch.zeros(M, M)
    x1, y1, x2, y2 = box
    for row, column in itertools.product(range(M), repeat=2):
        samples = []
        for dy, dx in itertools.product((0.25, 0.75), repeat=2):
            x = x1 + (column + dx) * (x2 - x1) / M - 0.5
            y = y1 + (row + dy) * (y2 - y1) / M - 0.5
            samples.append(bilinear(mask, x, y))
        crop[row, column] = sum(samples) / 4 >= 0.5
    return crop


def bilinear(mask, x, y):
    height, width = mask.shape
    if not (-1 <= x <= width and -1 <= y <= height):
        return 0.0
    x, y = max(x, 0.0), max(y, 0.0)
    x0, y0 = min(int(x), width - 1), min(int(y), height - 1)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    fx = x - x0 if x0 < width - 1 else 0.0
    fy = y - y0 if y0 < height - 1 else 0.0
    top = mask[y0, x0] * (1 - fx) + mask[y0, x1] * fx
    bottom = mask[y1, x0] * (1 - fx) + mask[y1, x1] * fx
    return float(top * (1 - fy) + bottom * fy)


def cost_by_hand(p, b, query, gt, j, length):
    """L_match of Eq. 4 for one query and one instance, frame by frame."""
    height, width = SIZES[b].tolist()
    total = 0.0
    for t in range(length):
        seen = bool(gt.present[j, t])
        probabilities = p.logits[b, query, t].softmax(-1)
        total -= WEIGHTS["cls"] * float(probabilities[gt.labels[j] if seen else CLASSES])
        if not seen:
            continue
        box, gt_box = p.boxes[b, query, t].tolist(), gt.bboxes[j, t].tolist()
        scale = [width, height, width, height]
        total += WEIGHTS["l1"] * sum(
            abs(u - v) / s for u, v, s in zip(box, gt_box, scale, strict=True)
        )
        total -= WEIGHTS["giou"] * giou(box, gt_box)
        total -= WEIGHTS["mask"] * mask_iou_by_hand(p, b, query, gt, j, t)
    return total


def mask_iou_by_hand(p, b, query, gt, j, t):
    x1, y1, x2, y2 = box = p.mask_boxes[b, query, t].tolist()
    soft = p.masks[b, query, t].sigmoid()
    inter = float((soft * crop_by_hand(gt.masks[j, t].float(), box)).sum())
    whole = float(gt.masks[j, t].sum()) / ((x2 - x1) * (y2 - y1) / M**2)
    return inter / max(float(soft.sum()) + whole - inter, inter)


def costs(p, b, gt, length=T):
    meta = dict(img_shape=SIZES[b].tolist())
    terms = [TASK_UTILS.build(dict(cost)) for cost in MATCH_COSTS]
    arguments = dict(
        pred_instances=tracklets(p, b, length),
        gt_instances=first_frames(gt, length),
        img_meta=meta,
    )
    return sum(term(**arguments) for term in terms)


@pytest.mark.parametrize("length", [T, 2])
def test_matching_cost_is_equation_4(criterion, length):
    p = predictions()
    for b, gt in enumerate(TARGETS):
        actual = costs(p, b, gt, length)
        for query, j in itertools.product(range(N), range(len(gt))):
            expected = cost_by_hand(p, b, query, gt, j, length)
            assert float(actual[query, j]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_masks_are_cropped_from_the_right_frames():
    p = predictions()
    gt = TARGETS[1]
    crops = crop_all_masks(gt.masks, p.mask_boxes[1], M)
    assert crops.shape == (N, T, 3, M, M)
    for query, t, j in itertools.product(range(N), range(T), range(3)):
        expected = crop_by_hand(gt.masks[j, t].float(), p.mask_boxes[1, query, t].tolist())
        assert torch.equal(crops[query, t, j], expected)
    pairs = crop_masks(gt.masks[:, 0], p.mask_boxes[1, :3, 0], M)
    assert torch.equal(pairs, torch.stack([crops[j, 0, j] for j in range(3)]))


def test_the_iou_counts_what_lies_outside_of_the_box():
    """A mask that fills its box has the IoU of the box with the instance."""
    gt = target([0], [[1] * T])
    gt.masks.zero_()
    gt.masks[0, :, 10:30, 10:40] = 1
    full = InstanceData(
        masks=torch.full((1, T, M, M), 20.0),
        mask_boxes=torch.tensor([10.0, 10, 40, 20]).expand(1, T, 4),
    )
    cost = TASK_UTILS.build(dict(type="TrackletMaskIoUCost"))(full, gt)
    assert float(cost) == pytest.approx(-0.5 * T, abs=1e-3)


def test_the_assignment_is_the_cheapest(criterion):
    p = predictions()
    assignments = criterion.assign(p, TARGETS, SIZES)
    for b, gt in enumerate(TARGETS):
        table = costs(p, b, gt)
        best = min(
            itertools.permutations(range(N), len(gt)),
            key=lambda queries: sum(float(table[q, j]) for j, q in enumerate(queries)),
        )
        assert assignments[b].tolist() == list(best)


def losses_by_hand(p, targets, assignments, lengths):
    """Eq. 5, entry by entry; every term the mean over its entries."""
    cls, l1, iou, bce, dice = [], [], [], [], []
    for b, (gt, assignment) in enumerate(zip(targets, assignments, strict=True)):
        instance_of = {q: j for j, q in enumerate(assignment.tolist()) if q >= 0}
        for query, t in itertools.product(range(N), range(lengths[b])):
            j = instance_of.get(query)
            seen = j is not None and bool(gt.present[j, t])
            label = int(gt.labels[j]) if seen else CLASSES
            weight = BACKGROUND_WEIGHT if j is None else 1.0
            cls.append((weight, -p.logits[b, query, t].log_softmax(-1)[label]))
            if j is None:
                continue
            logits = p.masks[b, query, t]
            crop = crop_by_hand(gt.masks[j, t].float(), p.mask_boxes[b, query, t].tolist())
            bce.append(F.binary_cross_entropy_with_logits(logits, crop))
            if not seen:
                assert not crop.any()
                continue
            height, width = SIZES[b].tolist()
            scale = torch.tensor([width, height, width, height])
            box = p.boxes[b, query, t]
            l1.append(((box - gt.bboxes[j, t]) / scale).abs().sum())
            iou.append(1 - giou(box.tolist(), gt.bboxes[j, t].tolist()))
            soft = logits.sigmoid()
            dice.append(1 - 2 * (soft * crop).sum() / (soft.square().sum() + crop.sum() + 2e-5))

    def mean(terms, factor):
        return factor * float(sum(terms)) / max(len(terms), 1)

    return dict(
        loss_cls=2.0 * float(sum(w * v for w, v in cls) / sum(w for w, _ in cls)),
        loss_bbox=mean(l1, 5.0),
        loss_iou=mean(iou, 2.0),
        loss_mask=mean(bce, 3.0),
        loss_dice=mean(dice, 8.0),
    )


@pytest.mark.parametrize("lengths", [[T, T], [T, 2]])
def test_losses_are_equation_5(criterion, lengths):
    p = predictions()
    valid = torch.arange(T) < torch.tensor(lengths)[:, None]
    targets = [target_in(gt, n) for gt, n in zip(TARGETS, lengths, strict=True)]
    assignments = criterion.assign(p, targets, SIZES, valid)
    actual = criterion(p, targets, assignments, SIZES, valid)
    expected = losses_by_hand(p, targets, assignments, lengths)
    assert {name: float(value) for name, value in actual.items()} == pytest.approx(
        expected, rel=1e-4
    )


def target_in(gt, length):
    """Nothing is present in the frames that pad a clip."""
    gt = gt.clone()
    gt.present = gt.present.clone()
    gt.present[:, length:] = False
    gt.masks = gt.masks * gt.present[..., None, None]
    return gt


def test_an_absent_instance_is_background_with_an_empty_mask(criterion):
    """In a frame without its instance a matched query learns its class and mask, not its box."""
    p = predictions()
    absent = [target([1], [[1, 0, 0, 1]]), target([], [])]
    losses = criterion(p, absent, [torch.tensor([2]), torch.tensor([]).long()], SIZES)
    sum(losses.values()).backward()
    box_gradient = p.boxes.grad.abs().sum(-1)[0] > 0
    assert box_gradient.nonzero().tolist() == [[2, 0], [2, 3]]
    mask_gradient = p.masks.grad.flatten(3)[0]
    assert (mask_gradient.abs().sum(-1) > 0).nonzero().tolist() == [[2, t] for t in range(T)]
    assert (mask_gradient[2, 1] > 0).all(), "every pixel is pushed down"
    class_gradient = p.logits.grad[0, 2]
    assert (class_gradient[[1, 2], CLASSES] < 0).all() and (class_gradient[[0, 3], 1] < 0).all()
    others = p.logits.grad[0, [0, 1, 3, 4]]
    assert (others[..., CLASSES] < 0).all() and (others[..., :CLASSES] > 0).all()


def test_without_objects_every_output_has_a_gradient(criterion):
    p = predictions()
    nothing = target([], [])
    assignments = criterion.assign(p, [nothing] * B, SIZES)
    losses = criterion(p, [nothing] * B, assignments, SIZES)
    assert losses["loss_cls"] > 0
    assert all(losses[name] == 0 for name in losses if name != "loss_cls")
    sum(losses.values()).backward()
    assert all(value.grad is not None for value in (p.logits, p.boxes, p.masks))


# --- the clips after the first ------------------------------------------------------------------


def test_the_second_clip_keeps_the_assignment_of_the_first(criterion):
    """Whatever its predictions say: they would match otherwise here."""
    known = [torch.tensor([4, 0]), torch.tensor([3, 1, 0])]
    second = predictions(seed=7)
    free_match = criterion.assign(second, TARGETS, SIZES)
    assert any(a.tolist() != k.tolist() for a, k in zip(free_match, known, strict=True))
    kept = criterion.assign(second, TARGETS, SIZES, known=known)
    assert [a.tolist() for a in kept] == [k.tolist() for k in known]


def test_an_instance_that_is_gone_keeps_its_query(criterion):
    gone = target([1, 0], [[0] * T, [1] * T])
    second = predictions(seed=7)
    assignment = criterion.assign(
        second, [gone, gone], SIZES, known=[torch.tensor([4, 0]), torch.tensor([2, 3])]
    )
    assert [a.tolist() for a in assignment] == [[4, 0], [2, 3]]
    losses = criterion(second, [gone, gone], assignment, SIZES)
    expected = losses_by_hand(second, [gone, gone], assignment, [T, T])
    assert {k: float(v) for k, v in losses.items()} == pytest.approx(expected, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_new_instances_get_the_cheapest_free_queries(criterion, data):
    b, gt = 1, TARGETS[1]
    p = predictions(seed=data.draw(st.integers(0, 5)))
    taken = data.draw(st.permutations(range(N)))
    is_known = data.draw(st.lists(st.booleans(), min_size=3, max_size=3))
    known = torch.tensor([taken[j] if is_known[j] else -1 for j in range(3)])
    (_, actual) = criterion.assign(p, TARGETS, SIZES, known=[torch.tensor([-1, -1]), known])
    assert all(int(actual[j]) == int(known[j]) for j in range(3) if is_known[j])
    new = [j for j in range(3) if not is_known[j]]
    free = [q for q in range(N) if q not in known.tolist()]
    table = costs(p, b, gt)
    best = min(
        itertools.permutations(free, len(new)),
        key=lambda queries: sum(float(table[q, j]) for q, j in zip(queries, new, strict=True)),
    )
    assert [int(actual[j]) for j in new] == list(best)


def test_an_instance_not_seen_yet_has_no_query(criterion):
    unseen = target([1, 0], [[1] * T, [0] * T])
    assignments = criterion.assign(predictions(), [unseen, unseen], SIZES)
    assert all(a[0] >= 0 and a[1] == -1 for a in assignments)


def test_more_instances_than_queries(criterion):
    crowd = target([0] * (N + 2), [[1] * T] * (N + 2))
    assignments = criterion.assign(predictions(), [crowd, crowd], SIZES)
    for assignment in assignments:
        assert sorted(assignment.tolist()) == [-1, -1, *range(N)]
    none_free = criterion.assign(predictions(), [crowd, crowd], SIZES, known=assignments)
    assert [a.tolist() for a in none_free] == [a.tolist() for a in assignments]
