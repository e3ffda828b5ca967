"""STMask on videos: temporal fusion, training on pairs, and the streaming contract."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import roi_align
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from streaming import SIZE, assert_same, metas, run, run_interleaved

from mmvis_plugin.models import TemporalFusion
from mmvis_plugin.models.layers import window_correlation
from mmvis_plugin.models.stmask.losses import mask_loss

CONFIG = Path(__file__).parents[2] / "configs/stmask/stmask_r18_shapes.py"


def build(**changes):
    init_default_scope("mmdet")
    settings = Config.fromfile(CONFIG).model
    settings.detector.pop("init_cfg")
    settings.update(changes)
    torch.manual_seed(0)
    model = MODELS.build(settings)
    model.init_weights()
    head = model.detector.bbox_head
    for layers in (head.cls_preds, head.centerness_preds):
        for layer in layers:
            # Untrained, nothing would be sure enough of a class to be tracked.
            last = getattr(layer, "conv_pred", layer)
            torch.nn.init.normal_(last.weight, std=0.1)
            last.bias.data[-1] = 2
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return build()


def video(seed: int, num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(1, 3, 8, 12, generator=generator)
    change = torch.randn(num_frames, 3, 8, 12, generator=generator) * 0.2
    return F.interpolate(first + change.cumsum(0), SIZE, mode="bicubic")


# --- temporal fusion -----------------------------------------------------------------------------


@pytest.fixture
def fusion():
    torch.manual_seed(0)
    module = TemporalFusion(window=3, in_channels=4, conv_channels=(6, 6, 8), num_coeffs=5)
    module.init_weights()
    return module


def test_fused_map_is_correlation_then_features(fusion):
    before, before_features, after, after_features = torch.randn(4, 2, 4, 6, 7).unbind(0)
    expected = torch.cat([window_correlation(before, after, 3), before_features, after_features], 1)
    fused = fusion.fuse(before, before_features, after, after_features)
    torch.testing.assert_close(fused, expected.relu())


def test_shifts_are_read_from_the_boxes(fusion):
    fused = torch.rand(2, 9 + 8, 6, 8)
    boxes = torch.tensor([[0.1, 0.2, 0.6, 0.9], [-0.2, 0.5, 0.5, 1.3]])
    deltas, shifts = fusion(fused, boxes, torch.tensor([1, 0]))
    cells = [[1, 0.8, 1.2, 4.8, 5.4], [0, 0, 3, 4, 6]]  # cut off at the borders
    x = roi_align(fused, torch.tensor(cells), 7, 1.0, 0, "avg", True)
    for conv in fusion.convs:
        x = conv.conv(x).relu()
    x = F.avg_pool2d(x, 7).flatten(1)
    torch.testing.assert_close(deltas, F.linear(x, fusion.fc_box.weight, fusion.fc_box.bias))
    torch.testing.assert_close(shifts, F.linear(x, fusion.fc_coeff.weight, fusion.fc_coeff.bias))


def test_boxes_outside_of_the_frame_and_reversed_boxes(fusion):
    fused = torch.rand(1, 9 + 8, 6, 8)
    outside = torch.tensor([[1.2, 0.2, 1.4, 0.5], [-0.5, 0.2, -0.1, 0.5]])
    deltas, _ = fusion(fused, outside, torch.zeros(2, dtype=torch.long))
    nothing, _ = fusion(torch.zeros_like(fused), outside, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(deltas, nothing)
    box = torch.tensor([[0.1, 0.2, 0.6, 0.9]])
    torch.testing.assert_close(
        fusion(fused, box[:, [2, 3, 0, 1]], torch.zeros(1, dtype=torch.long)),
        fusion(fused, box, torch.zeros(1, dtype=torch.long)),
    )


def test_no_boxes(fusion):
    deltas, shifts = fusion(torch.rand(1, 17, 6, 8), torch.zeros(0, 4), torch.zeros(0).long())
    assert deltas.shape == (0, 4) and shifts.shape == (0, 5)
    (deltas.sum() + shifts.sum()).backward()
    assert all(parameter.grad is not None for parameter in fusion.parameters())


# --- training ------------------------------------------------------------------------------------


def pair(objects, size=SIZE):
    """A training sample; ``objects`` are two dicts of identity -> box in pixels."""
    sample = TrackDataSample()
    frames = []
    for boxes in objects:
        frame = DetDataSample()
        masks = torch.zeros(len(boxes), *size)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.values(), strict=True):
            mask[y1:y2, x1:x2] = 1
        frame.gt_instances = InstanceData(
            bboxes=torch.tensor(list(boxes.values()), dtype=torch.float).reshape(-1, 4),
            labels=torch.arange(len(boxes)),
            masks=BitmapMasks(masks.numpy().astype("uint8"), *size),
            instances_ids=torch.tensor(list(boxes), dtype=torch.long),
        )
        frames.append(frame)
    sample.video_data_samples = frames
    return sample


PAIRS = [
    pair([{0: (8, 8, 32, 32), 3: (50, 20, 80, 50)}, {3: (54, 22, 84, 52), 0: (10, 8, 34, 32)}]),
    pair([{1: (20, 10, 60, 40)}, {2: (20, 10, 60, 40)}]),
]


def test_gradients_reach_every_parameter():
    model = build().train()
    # Residual branches start at zero, which hides what is before it from the gradient.
    for name, parameter in model.detector.backbone.named_parameters():
        if "bn" in name and name.endswith("weight"):
            parameter.data.fill_(1)
    # The objects are too small for the coarsest levels, which learn background only.
    model.detector.criterion.neg_pos_ratio = 1000
    losses = model.loss(torch.randn(2, 2, 3, *SIZE), PAIRS)
    assert set(losses) == {
        f"loss_{key}"
        for key in ("bbox", "cls", "centerness", "mask", "track", "shift_bbox", "shift_mask")
    }
    sum(losses.values()).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not without


@pytest.mark.parametrize(
    "objects", [[{}, {}], [{}, {0: (8, 8, 32, 32)}], [{0: (8, 8, 32, 32)}, {}]]
)
def test_pairs_without_a_common_object(objects):
    model = build().train()
    losses = model.loss(torch.randn(1, 2, 3, *SIZE), [pair(objects)])
    assert losses["loss_shift_bbox"] == 0 and losses["loss_shift_mask"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_shift_losses_by_definition(model):
    images = torch.randn(2, 2, 3, *SIZE)
    seen = {}

    def spy(module, inputs, outputs):
        seen["boxes"], seen["pairs"] = inputs[1], inputs[2]
        seen["deltas"], seen["shifts"] = outputs

    handle = model.temporal_fusion.register_forward_hook(spy)
    losses = model.loss(images, PAIRS)
    handle.remove()
    # Only the first pair has objects in both frames, and only they are carried on.
    assert seen["pairs"].unique().tolist() == [0] and len(seen["boxes"]) >= 2

    feats = model.detector.extract_feat(images.flatten(0, 1))
    outputs = model.detector.outputs(feats)
    coder = model.detector.bbox_head.bbox_coder
    scale = torch.tensor([96.0, 64, 96, 64])
    truth = {
        0: (torch.tensor([8.0, 8, 32, 32]) / scale, torch.tensor([10.0, 8, 34, 32]) / scale),
        3: (torch.tensor([50.0, 20, 80, 50]) / scale, torch.tensor([54.0, 22, 84, 52]) / scale),
    }
    all_boxes = coder.decode(outputs.priors, outputs.deltas[0])
    box_losses, mask_losses = [], []
    for box, delta, shift in zip(seen["boxes"], seen["deltas"], seen["shifts"], strict=True):
        anchor = (all_boxes - box).abs().sum(1).argmin()
        # The objects are far apart: an anchor learns the one it is nearer to.
        prior = outputs.priors[anchor]
        key = min(truth, key=lambda k: (truth[k][0] - prior).abs().sum())
        before, after = truth[key]
        centre = ((after[:2] + after[2:]) - (before[:2] + before[2:])) / 2
        extent = before[2:] - before[:2]
        target = torch.cat([centre / extent / 0.1, ((after[2:] - after[:2]) / extent).log() / 0.2])
        box_losses.append(F.smooth_l1_loss(delta, target, reduction="sum"))
        mask = torch.zeros(1, *SIZE)
        x1, y1, x2, y2 = (after * scale).round().int().tolist()
        mask[0, y1:y2, x1:x2] = 1
        mask_losses.append(
            mask_loss(
                outputs.prototypes[1:2],
                outputs.coeffs[0, anchor][None] + shift,
                torch.tensor([0]),
                mask,
                torch.tensor([0]),
                after[None],
            )[0]
        )
    # Means over the anchors of a pair, and over the two pairs.
    expected = 5 * torch.stack(box_losses).mean() / 2
    torch.testing.assert_close(losses["loss_shift_bbox"], expected, rtol=1e-4, atol=1e-4)
    expected = 6.125 * torch.stack(mask_losses).mean() / 2
    torch.testing.assert_close(losses["loss_shift_mask"], expected, rtol=1e-4, atol=1e-4)


def test_shift_losses_train_neither_boxes_nor_prototypes(model):
    images = torch.randn(2, 2, 3, *SIZE)
    losses = model.loss(images, PAIRS)
    (losses["loss_shift_bbox"] + losses["loss_shift_mask"]).backward()
    detector = model.detector
    for module in (detector.mask_head, detector.bbox_head.reg_convs, detector.bbox_head.mask_preds):
        assert all(p.grad is None or not p.grad.any() for p in module.parameters())
    assert detector.bbox_head.shared_conv.conv.weight.grad.any()
    model.zero_grad(set_to_none=True)


def test_clips_that_are_no_pairs_are_refused(model):
    with pytest.raises(ValueError, match="AnnotatedPairSample"):
        model.loss(torch.zeros(1, 3, 3, *SIZE), PAIRS[:1])


# --- streaming -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 7, 11])
def test_results_do_not_depend_on_how_frames_are_cut(model, cut):
    frames = video(0, 11)
    reference = run(model, frames, [3, 1, 5, 2])
    assert [frame.frame_id for frame in reference[0]] == list(range(11))
    assert sum(len(frame.pred_track_instances) for frame in reference[0]) > 22
    assert_same(run(model, frames, cut), reference)


def test_two_videos_can_be_interleaved(model):
    videos = [video(2, 6), video(3, 6)]
    for frames, result in zip(videos, run_interleaved(model, videos), strict=True):
        assert_same(result, run(model, frames, 1))


def hide_everything(model):
    """Let the detector find nothing; returns what undoes it."""
    original = model.detector.test_cfg.score_thr
    model.detector.test_cfg.score_thr = 2.0
    return lambda: model.detector.test_cfg.update(score_thr=original)


def test_an_instance_without_detections_is_carried_on_and_then_hidden(model):
    state = model.start_video({})
    frames = video(4, 16)
    model.step(state, frames[:1], metas(16)[:1])
    first = state.tracks
    restore = hide_everything(model)
    try:
        results = model.step(state, frames[1:], metas(16)[1:])
    finally:
        restore()
    assert state.tracks.ids.tolist() == first.ids.tolist()
    assert (state.tracks.gaps == 15).all()
    torch.testing.assert_close(state.tracks.scores, first.scores * 0.95**15)
    assert not torch.equal(state.tracks.bboxes, first.bboxes)
    shown = [len(frame.pred_track_instances) for frame in results]
    limit = model.tracker.max_shown_gap
    assert 0 < limit < 15 and all(shown[:limit]) and not any(shown[limit:])
    ids = {i for frame in results for i in frame.pred_track_instances.instances_id.tolist()}
    assert ids <= set(first.ids.tolist())


def test_state_is_bounded():
    model = build(tracker=dict(type="STMaskTracker", dummy_iou=0.9, max_gap=2))
    state = model.start_video({})
    frames = torch.cat([3 * video(seed, 1) for seed in range(12)])  # nothing stays
    counts = []
    for t in range(12):
        model.step(state, frames[t : t + 1], metas(12)[t : t + 1])
        assert (state.tracks.gaps <= 2).all()
        counts.append(len(state.tracks))
    assert state.num_ids > max(counts)  # some were forgotten, none of the identities reused


def test_without_temporal_fusion_only_detections_are_shown():
    model = build(temporal_fusion=None)
    state = model.start_video({})
    frames = video(6, 3)
    first = model.step(state, frames[:1], metas(3)[:1])
    restore = hide_everything(model)
    try:
        hidden = model.step(state, frames[1:2], metas(3)[1:2])
    finally:
        restore()
    again = model.step(state, frames[:1], metas(3)[2:])
    assert len(first[0].pred_track_instances) > 0 == len(hidden[0].pred_track_instances)
    ids = [frame.pred_track_instances.instances_id.tolist() for frame in (first[0], again[0])]
    assert ids[0] == ids[1]  # found again where they were last seen


def test_predicts_under_bfloat16_autocast(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results, _ = run(model, video(7, 4), 1)
    assert sum(len(frame.pred_track_instances) for frame in results) > 4
    for frame in results:
        assert frame.pred_track_instances.scores.dtype == torch.float32
        assert frame.pred_track_instances.bboxes.isfinite().all()


def test_double_precision(model):
    """The model runs in float64 throughout, as comparisons with other code need it."""
    twice = build().double()
    twice.load_state_dict(model.state_dict())
    single = model.detector.outputs(model.detector.extract_feat(video(8, 1)))
    double = twice.detector.outputs(twice.detector.extract_feat(video(8, 1).double()))
    assert double.priors.dtype == torch.double
    for name in ("deltas", "logits", "coeffs", "embeddings", "centerness", "prototypes"):
        value = getattr(double, name)
        assert value.dtype == torch.double, name
        torch.testing.assert_close(value.float(), getattr(single, name), atol=1e-5, rtol=1e-4)
    results, _ = run(twice, video(8, 2).double(), 1)
    assert len(results) == 2
