"""SipMask: parts against their slow forms, the tracker, and the streaming contract."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from streaming import SIZE, assert_same, metas, run, run_interleaved, video

from mmvis_plugin.models import SipMaskTracker
from mmvis_plugin.models.layers.legacy_iou import legacy_iou
from mmvis_plugin.models.sipmask.masks import instance_masks
from mmvis_plugin.models.sipmask.targets import assign

CONFIG = Path(__file__).parents[2] / "configs/sipmask/sipmask_r18_shapes.py"


@pytest.fixture(scope="module")
def model():
    init_default_scope("mmdet")
    settings = Config.fromfile(CONFIG).model
    settings.detector.backbone.pop("init_cfg")
    torch.manual_seed(0)
    model = MODELS.build(settings)
    model.init_weights()
    head = model.detector.bbox_head
    # Untrained, nothing would be sure enough of a class to be tracked, or have a box.
    torch.nn.init.normal_(head.conv_cls.weight, std=0.1)
    torch.nn.init.zeros_(head.conv_cls.bias)
    torch.nn.init.constant_(head.conv_reg.bias, 2.5)
    return model.eval()


@pytest.mark.parametrize("regions", [1, 2, 3])
def test_each_cell_is_made_of_its_regions_coefficients(regions):
    torch.manual_seed(0)
    basis, coeffs = torch.randn(3, 9, 12), torch.randn(3, 3 * regions**2)
    boxes = torch.tensor([[1.5, 0.2, 8.0, 7.7], [-3.0, -2.0, 20.0, 30.0], [6.0, 5.0, 4.0, 8.0]])
    masks = instance_masks(basis, coeffs, boxes, regions)
    for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for y in range(9):
            for x in range(12):
                value = 0.0
                if x1 <= x < x2 and y1 <= y < y2:
                    column = int((x - x1) / ((x2 - x1 + 0.1) / regions))
                    row = int((y - y1) / ((y2 - y1 + 0.1) / regions))
                    first = 3 * (regions * row + column)
                    value = float((basis[:, y, x] @ coeffs[n, first : first + 3]).sigmoid())
                assert float(masks[n, y, x]) == pytest.approx(value, abs=1e-6)


def test_legacy_iou_counts_pixels():
    a, b = torch.tensor([0.0, 0.0, 3.0, 1.0]), torch.tensor([2.0, 1.0, 5.0, 4.0])
    pixels = [
        {(x, y) for x in range(int(q[0]), int(q[2]) + 1) for y in range(int(q[1]), int(q[3]) + 1)}
        for q in (a, b)
    ]
    expected = len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])
    assert float(legacy_iou(a, b)) == pytest.approx(expected)


def test_a_location_learns_the_smallest_object_around_whose_centre_it_is():
    points = torch.tensor([[x + 4.0, y + 4.0] for y in range(0, 64, 8) for x in range(0, 64, 8)])
    boxes = torch.tensor([[0.0, 0.0, 60.0, 60.0], [20.0, 20.0, 41.0, 39.0]])
    ranges = torch.tensor([[-1.0, 40.0]]).expand(64, 2)
    chosen, distances = assign(points, torch.full((64,), 8.0), ranges, boxes, 1.5)
    for (x, y), object_, borders in zip(points.tolist(), chosen.tolist(), distances, strict=True):
        fitting = []
        for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < 12
            inside = x1 < x < x2 and y1 < y < y2
            reach = max(x - x1, y - y1, x2 - x, y2 - y)
            if near and inside and reach <= 40:
                fitting.append(((x2 - x1 + 1) * (y2 - y1 + 1), i))
        assert object_ == (min(fitting)[1] if fitting else -1)
        if fitting:
            x1, y1, x2, y2 = boxes[object_].tolist()
            assert borders.tolist() == [x - x1, y - y1, x2 - x, y2 - y]
    assert {0, 1, -1} == set(chosen.tolist())


def detections(embeddings, labels, scores):
    count = len(labels)
    return InstanceData(
        bboxes=torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(count, 1),
        embeddings=torch.tensor(embeddings),
        labels=torch.tensor(labels),
        scores=torch.tensor(scores),
    )


def test_the_likelier_of_two_claims_wins_and_the_class_stays():
    tracker = SipMaskTracker()
    first = detections([[5.0, 0.0], [0.0, 5.0]], [1, 2], [0.9, 0.9])
    ids, known, num_ids = tracker.associate(first, None, 0)
    assert ids.tolist() == [0, 1]
    again = detections([[5.0, 0.0], [5.0, 0.0], [0.0, 6.0]], [1, 1, 2], [0.4, 0.8, 0.9])
    ids, known, num_ids = tracker.associate(again, known, num_ids)
    assert ids.tolist() == [-1, 0, 1]
    assert known.labels.tolist() == [1, 2]
    assert known.embeddings[1].tolist() == [0.0, 6.0]


def test_an_object_that_was_away_too_long_is_new_when_it_returns():
    tracker = SipMaskTracker(max_gap=2)
    one = detections([[5.0, 0.0]], [1], [0.9])
    ids, known, num_ids = tracker.associate(one, None, 0)
    for _ in range(2):
        _, known, num_ids = tracker.associate(one[:0], known, num_ids)
    assert tracker.associate(one, known, num_ids)[0].tolist() == [0]
    _, known, num_ids = tracker.associate(one[:0], known, num_ids)
    assert tracker.associate(one, known, num_ids)[0].tolist() == [1]


def test_results_do_not_depend_on_cuts_and_videos_can_be_interleaved(model):
    videos = [video(seed, 5) for seed in (0, 1)]
    whole = [run(model, frames, 5) for frames in videos]
    assert sum(len(frame.pred_track_instances) for frame in whole[0][0]) > 5
    for cuts in (1, 2):
        assert_same(run(model, videos[0], cuts), whole[0])
    for one, other in zip(run_interleaved(model, videos), whole, strict=True):
        assert_same(one, other)


def test_bfloat16_autocast(model):
    with torch.autocast("cpu", torch.bfloat16):
        frames, _ = run(model, video(0, 2), 1)
    assert len(frames) == 2
    assert all(frame.pred_track_instances.scores.isfinite().all() for frame in frames)


def test_what_is_known_does_not_grow_with_the_video():
    tracker, known, num_ids, sizes = SipMaskTracker(max_gap=20), None, 0, {}
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 901):
        found = detections(torch.zeros(3, 4).tolist(), [t, t, t], [0.9] * 3)
        found.embeddings = torch.randn(3, 4, generator=generator)
        _, known, num_ids = tracker.associate(found, known, num_ids)
        sizes[t] = len(known)
    assert num_ids > 900
    assert sizes[900] <= 3 * 21
    assert sizes[900] <= 1.1 * max(sizes[t] for t in range(1, 301))


def pairs():
    samples = []
    for seed in (0, 1):
        frames = []
        for _ in range(2):
            masks = torch.zeros(2, *SIZE, dtype=torch.uint8)
            masks[0, 10:40, 10 + seed : 50], masks[1, 30:60, 40:90] = 1, 1
            frame = DetDataSample(metainfo=metas(1)[0])
            frame.gt_instances = InstanceData(
                bboxes=torch.tensor([[10.0 + seed, 10, 50, 40], [40, 30, 90, 60]]),
                labels=torch.tensor([1, 4]),
                masks=BitmapMasks(masks.numpy(), *SIZE),
                instances_ids=torch.tensor([3, 7]),
            )
            frames.append(frame)
        sample = TrackDataSample(metainfo=dict(key_frames_inds=[0], ref_frames_inds=[1]))
        sample.video_data_samples = frames
        samples.append(sample)
    return samples


def test_losses_reach_every_weight_that_learns(model):
    inputs = torch.stack([video(seed, 2) for seed in (0, 1)])
    losses = model.loss(inputs, pairs())
    assert set(losses) == {"loss_cls", "loss_bbox", "loss_centerness", "loss_mask", "loss_match"}
    assert all(loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    model.zero_grad()
    assert missing == []


def test_clips_that_are_not_pairs_are_refused(model):
    with pytest.raises(ValueError, match="key frame and a reference, got clips of 3"):
        model.loss(torch.zeros(2, 3, 3, *SIZE), pairs())
