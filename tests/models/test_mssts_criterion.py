"""Matching and losses of SeqFormer against loops over queries, tracks and frames."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmvis_plugin.models.mssts.criterion import Matching, SeqFormerCriterion, track_targets
from mmvis_plugin.models.mssts.decoder import InstancePredictions

CONFIG = Path(__file__).parents[2] / "configs/mssts/seqformer_r50_ytvis19.py"
B, T, Q, K = 2, 3, 4, 6
SIZE = (32, 64)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def criterion():
    init_default_scope("mmdet")
    return MODELS.build(Config.fromfile(CONFIG, import_custom_modules=False).model.criterion)


def targets(num_tracks=(2, 1)):
    clips = []
    for count in num_tracks:
        boxes = torch.rand(count, T, 4) * 0.4 + 0.1
        masks = (torch.rand(count, T, *SIZE) < 0.3).to(torch.uint8)
        if count:
            boxes[0, 1], masks[0, 1] = 1e-6, 0  # absent
        clips.append(InstanceData(labels=torch.randint(0, K, (count,)), boxes=boxes, masks=masks))
    return clips


def predictions(**kwargs):
    return InstancePredictions(
        torch.randn(B, Q, 8, **kwargs),
        torch.randn(B, Q, K, **kwargs),
        (torch.rand(B, T, Q, 4) * 0.6 + 0.1).requires_grad_(bool(kwargs)),
        torch.rand(B, T, Q, 2, **kwargs),
    )


def giou(a, b):
    """Of two boxes (cx, cy, w, h)."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.tolist(), b.tolist()
    width = max(0, min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2))
    height = max(0, min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2))
    union = aw * ah + bw * bh - width * height
    hull = (max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)) * (
        max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    )
    return width * height / union - (hull - union) / hull


def cost(logits, boxes, label, track):
    """Of one query, (K,) and (T, 4), and one track."""
    p = torch.sigmoid(logits[label])
    of_class = -0.25 * (1 - p) ** 2 * torch.log(p + 1e-8)
    of_class += 0.75 * p**2 * torch.log(1 - p + 1e-8)
    distance = torch.sqrt(((boxes - track) ** 2).sum())
    overlap = sum(giou(boxes[t], track[t]) for t in range(T)) / T
    return float(2 * of_class + 5 * distance - 2 * overlap)


def test_costs_term_by_term(criterion):
    outputs, clips = predictions(), targets()
    for b, target in enumerate(clips):
        instances = InstanceData(scores=outputs.logits[b], boxes=outputs.boxes[b].transpose(0, 1))
        total = sum(term(instances, target) for term in criterion.assigner.match_costs)
        for q in range(Q):
            for g in range(len(target)):
                expected = cost(
                    outputs.logits[b, q], outputs.boxes[b, :, q], target.labels[g], target.boxes[g]
                )
                assert float(total[q, g]) == pytest.approx(expected, rel=1e-4)


def test_the_cheapest_of_all_assignments(criterion):
    outputs, clips = predictions(), targets((3, 1))
    matching = criterion.match(outputs, clips)
    assert matching.clips.tolist() == [0, 0, 0, 1] and matching.total == 4
    for b, target in enumerate(clips):
        costs = {
            (q, g): cost(
                outputs.logits[b, q], outputs.boxes[b, :, q], target.labels[g], target.boxes[g]
            )
            for q in range(Q)
            for g in range(len(target))
        }
        best = min(
            permutations(range(Q), len(target)),
            key=lambda chosen: sum(costs[q, g] for g, q in enumerate(chosen)),
        )
        rows = (matching.clips == b).nonzero()[:, 0]
        found = {
            int(matching.queries[row]): g
            for row in rows
            for g in range(len(target))
            if torch.equal(matching.tracks.boxes[row], target.boxes[g])
        }
        assert found == {q: g for g, q in enumerate(best)}


def focal(logits, target):
    p = torch.sigmoid(logits)
    losses = torch.where(target > 0, -0.25 * (1 - p) ** 2 * p.log(), -0.75 * p**2 * (1 - p).log())
    return losses


def test_losses_track_by_track(criterion):
    """Class, boxes and masks; frames in which a track is absent count."""
    outputs, clips = predictions(), targets()
    matching = criterion.match(outputs, clips)
    masks = torch.randn(3, T, SIZE[0] // 4, SIZE[1] // 4)
    losses = criterion(outputs, masks, matching)

    classes = torch.zeros(B, Q, K)
    expected = dict(loss_bbox=0.0, loss_iou=0.0, loss_mask=0.0, loss_dice=0.0)
    for n, (b, q) in enumerate(zip(matching.clips, matching.queries, strict=True)):
        track = matching.tracks[n]
        classes[b, q, track.labels] = 1
        for t in range(T):
            box, target = outputs.boxes[b, t, q], track.boxes[0, t]
            expected["loss_bbox"] += 5 * (box - target).abs().sum() / T
            expected["loss_iou"] += 2 * (1 - giou(box, target)) / T
        target = track.masks[0, :, 2::4, 2::4].float()
        expected["loss_mask"] += 2 * focal(masks[n], target).mean()
        overlap = (masks[n].sigmoid() * target).sum()
        size = masks[n].sigmoid().sum() + target.sum()
        expected["loss_dice"] += 5 * (1 - (2 * overlap + 1) / (size + 1))
    expected["loss_cls"] = 2 * focal(outputs.logits, classes).sum()
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        assert float(loss) == pytest.approx(float(expected[name]) / 3, rel=1e-4), name


def test_without_tracks_only_the_classes_learn(criterion):
    outputs, clips = predictions(requires_grad=True), targets((0, 0))
    matching = criterion.match(outputs, clips)
    assert matching.total == 1 and len(matching.queries) == 0
    masks = torch.zeros(0, T, 8, 16, requires_grad=True)
    losses = criterion(outputs, masks, matching)
    assert all(loss == 0 for name, loss in losses.items() if name != "loss_cls")
    sum(losses.values()).backward()
    assert outputs.logits.grad.abs().min() > 0
    for untouched in (outputs.boxes, outputs.centers):
        assert untouched.grad is not None and untouched.grad.abs().max() == 0


def test_cells_are_sampled_in_their_middle(criterion):
    masks = torch.arange(8 * 16).view(1, 1, 8, 16)
    assert torch.equal(criterion.cells(masks, (2, 4)), masks[..., 2::4, 2::4])
    assert torch.equal(criterion.cells(masks, (1, 2)), masks[..., 4::8, 4::8])


def test_cells_that_are_means_lie_where_inference_puts_them(criterion):
    """A disc that is enlarged again is where it was; cells of middles shift it by half a pixel."""
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    disc = ((y - 40.3) ** 2 + (x - 60.7) ** 2 <= 12.5**2).to(torch.uint8)[None, None]
    ious = {}
    for criterion.cell_targets in ("middle", "mean"):
        logits = criterion.cells(disc, (48, 64)).float() - 0.5
        again = torch.nn.functional.interpolate(logits, (96, 128), mode="bilinear") > 0
        ious[criterion.cell_targets] = (again & (disc > 0)).sum() / (again | (disc > 0)).sum()
    assert ious["mean"] > 0.975 > 0.96 > ious["middle"]


def test_unknown_cell_targets():
    with pytest.raises(ValueError, match="'middle' or 'mean', got 'nearest'"):
        SeqFormerCriterion({}, {}, {}, {}, {}, {}, cell_targets="nearest")


def clip_sample(ids_per_frame, size=(20, 48), padded=SIZE):
    """Object i covers rows 4i to 4i + 4 and columns 8 to 24."""
    frames = []
    for ids in ids_per_frame:
        masks = np.zeros((len(ids), *padded), dtype=np.uint8)
        for n, i in enumerate(ids):
            masks[n, 4 * i : 4 * i + 4, 8:24] = 1
        frame = DetDataSample(metainfo=dict(img_shape=size))
        frame.gt_instances = InstanceData(
            bboxes=torch.tensor([[8, 4 * i, 24, 4 * i + 4] for i in ids]).float().reshape(-1, 4),
            labels=torch.tensor(ids).long() + 1,
            masks=BitmapMasks(masks, *padded),
            instances_ids=torch.tensor(ids).int(),
        )
        frames.append(frame)
    sample = TrackDataSample()
    sample.video_data_samples = frames
    return sample


def test_targets_of_tracks_that_come_and_go():
    target = track_targets(clip_sample([[2, 0], [0], []]), SIZE, first_class=1)
    assert target.labels.tolist() == [2, 4]  # index of the logit: class + 1
    assert target.boxes.shape == (2, 3, 4) and target.masks.shape == (2, 3, *SIZE)
    # In widths and heights of the frame without padding.
    torch.testing.assert_close(
        target.boxes[1, 0], torch.tensor([16 / 48, 10 / 20, 16 / 48, 4 / 20])
    )
    absent = torch.full((4,), 1e-6)
    for g, t in ((0, 2), (1, 1), (1, 2)):
        assert torch.equal(target.boxes[g, t], absent)
        assert not target.masks[g, t].any()
    assert target.masks[1, 0].sum() == 4 * 16


def test_matching_is_without_gradient(criterion):
    outputs = predictions(requires_grad=True)
    matching = criterion.match(outputs, targets())
    assert isinstance(matching, Matching)
    assert not any(x.requires_grad for x in (matching.total, matching.tracks.boxes))
