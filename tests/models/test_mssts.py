"""The MS-STS VIS segmentor: its switches, training, windows and the streaming contract."""

import re
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
from pycocotools import mask as mask_utils
from streaming import SIZE, assert_same, metas, run, run_interleaved
from streaming import video as noise
from torch.utils.checkpoint import checkpoint

from mmvis_plugin.models.mssts.mssts import foreground_views, mask_confidence

CONFIGS = Path(__file__).parents[2] / "configs/mssts"
MS_STS = dict(type="MSSTSAttention", intra=True, inter=True)


def build(config="mssts_r18_shapes", seed=0, **changes):
    """An untrained model on the CPU."""
    init_default_scope("mmdet")
    (file,) = CONFIGS.rglob(f"{config}.py")
    settings = Config.fromfile(file, import_custom_modules=False).model
    settings.pop("init_cfg")
    for key, value in changes.items():
        node, *rest = key.split("__")
        target = settings
        while rest:
            target, node = target[node], rest.pop(0)
        target[node] = value
    torch.manual_seed(seed)
    model = MODELS.build(settings)
    model.init_weights()
    return model.eval()


def confident(model):
    """Let queries disagree on classes, places and masks."""
    generator = torch.Generator().manual_seed(1)
    for branch in model.decoder.class_branches:
        branch.weight.data.normal_(std=0.5, generator=generator)
    for branch in model.decoder.box_branches:
        branch.layers[-1].weight.data.normal_(std=0.1, generator=generator)
    model.mask_head.controller.layers[-1].bias.data.normal_(std=0.5, generator=generator)
    return model


@pytest.fixture(scope="module")
def model():
    """With the scores of SeqFormer."""
    windows = dict(length=4, overlap=2, min_iou=0.3)
    return confident(build(windows=windows, score_powers=(1, 0)))


def video(seed, num_frames):
    return noise(seed, num_frames, contrast=2.0)


# --- inference ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 7, 10])
def test_results_do_not_depend_on_how_frames_are_cut(model, cut):
    frames = video(0, 10)
    reference = run(model, frames, [3, 1, 5, 1])
    assert [frame.frame_id for frame in reference[0]] == list(range(10))
    assert sum(len(frame.pred_track_instances) for frame in reference[0]) > 20
    assert_same(run(model, frames, cut), reference)


def test_one_window_is_the_pass_over_the_whole_video(model):
    whole = confident(build(score_powers=(1, 0)))
    assert whole.windows.length == 48
    assert_same(run(model, video(1, 4), 1), run(whole, video(1, 4), 4))


def test_memory_stays_that_of_one_window(model, monkeypatch):
    lengths, held = [], []
    encode = model.encode
    monkeypatch.setattr(
        model,
        "encode",
        lambda frames, sizes: lengths.append(frames.shape[1]) or encode(frames, sizes),
    )
    state, facts = model.start_video({}), metas(40)
    for t in range(40):
        model.step(state, video(t, 1), facts[t : t + 1])
        previous = state.linker._previous
        masks = previous[1].nbytes if previous else 0
        held.append(sum(frame.nbytes for frame in state.frames) + masks)
        assert len(state.frames) <= 4 and len(state.metas) <= 4
    rest, tracks = model.finish(state)
    assert rest == [] and len(tracks.instances_id) > 0
    assert set(lengths) == {4} and len(lengths) == 19
    assert max(held[4:8]) == max(held)


def test_tracks_are_the_best_pairs_of_query_and_class(model):
    """Masks straight from half of the finest stride to the original size."""
    frames = video(2, 3)
    results, tracks = run(model, frames, 3)
    with torch.no_grad():
        clip = frames[None, ..., :60, :87]
        features = model.encode(clip, [(60, 87)])
        last = model.decoder(features)[-1]
        mask_features = model.mask_head.mask_features(features.maps(3))
        assert mask_features.shape[-2:] == (15, 22)
        scores = last.logits[0].sigmoid()
        for query, label in [divmod(int(i), 6) for i in scores.flatten().argsort()[-10:].flip(0)]:
            row = (tracks.scores == scores[query, label]).nonzero()
            logits = model.mask_head(
                mask_features,
                last.queries[0, query][None],
                last.centers[0, :, query][None] * torch.tensor([87, 60]),
            )[0]
            full = torch.nn.functional.interpolate(logits[:, None], (90, 130), mode="bilinear")
            areas = (full[:, 0].sigmoid() > 0.5).flatten(1).sum(1).tolist()
            if not any(areas):
                assert len(row) == 0
                continue
            assert tracks.labels[row[0, 0]] == label
            track = tracks.instances_id[row[0, 0]]
            for t, result in enumerate(results):
                found = result.pred_track_instances
                masks = [
                    m for m, i in zip(found.masks, found.instances_id, strict=True) if i == track
                ]
                assert sum(mask_utils.area(mask) for mask in masks) == areas[t]


def test_padding_of_a_batch_is_cut_off(model):
    """What lies outside of a frame does not count."""
    frames = video(3, 3)
    changed = frames.clone()
    changed[..., 60:, :] = 7
    changed[..., 87:] = -7
    assert_same(run(model, frames, 3), run(model, changed, 3))


def test_logits_of_no_class_are_left_out():
    """SeqFormer's 42 logits: the best pairs are chosen among all, tracks have a class."""
    model = confident(build("seqformer_r18_shapes", decoder__unused_logits=(1, 1)))
    assert model.decoder.class_branches[-1].out_features == 8
    bias = model.decoder.class_branches[-1].bias.data
    bias[:] = torch.tensor([3.0, -9, -9, -9, 2, -9, -9, 3.0])
    model.decoder.class_branches[-1].weight.data *= 0.01
    window = model.segment_window(video(0, 2), metas(2))
    assert len(window.labels) == 0
    bias[[0, 7]] = -9
    window = model.segment_window(video(0, 2), metas(2))
    assert window.labels.tolist() == [3] * 10 and window.logits.shape == (10, 2, 30, 44)


@pytest.mark.parametrize("powers", [(1, 1), (0.5, 8)])
def test_scores_by_the_certainty_of_masks(model, monkeypatch, powers):
    plain = model.segment_window(video(2, 3), metas(3))
    monkeypatch.setattr(model, "score_powers", powers)
    sure = model.segment_window(video(2, 3), metas(3))
    assert torch.equal(plain.logits, sure.logits) and torch.equal(plain.labels, sure.labels)
    for score, before, logits in zip(sure.scores, plain.scores, plain.logits, strict=True):
        inside = [p for p in logits.sigmoid().flatten().tolist() if p > 0.5]
        certainty = sum(inside) / len(inside) if inside else 0
        expected = before.item() ** powers[0] * certainty ** powers[1]
        assert score.item() == pytest.approx(expected, rel=1e-4)


def test_a_track_without_a_cell_has_no_certainty():
    logits = torch.tensor([-1.0, 0.0, 2.0])[:, None, None, None].expand(3, 2, 4, 4)
    expected = torch.tensor([0, 0, torch.tensor(2.0).sigmoid()])
    torch.testing.assert_close(mask_confidence(logits), expected)
    assert mask_confidence(logits[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(encoder__num_levels=3), "must be the same and at least 3, got 3 and 4"),
        (dict(encoder__num_levels=2, decoder__num_levels=2), "at least 3, got 2 and 2"),
        (dict(neck__num_outs=5), "the neck gives 5 scales, .* are for 4: set neck.num_outs"),
        (dict(mask_head__stride=8), "stride is 8, but the finest scale .* has 15 x 22 cells"),
    ],
)
def test_scales_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        run(build(**changes), video(0, 2), 2)


def test_two_videos_can_be_interleaved(model):
    videos = [video(4, 5), video(5, 5)]
    for frames, result in zip(videos, run_interleaved(model, videos), strict=True):
        assert_same(result, run(model, frames, 1))


def test_bfloat16_autocast(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results, tracks = run(model, video(0, 5), 5)
    assert len(results) == 5 and sum(len(f.pred_track_instances) for f in results) > 0
    assert tracks.scores.isfinite().all() and tracks.scores.dtype == torch.float32


# --- training -----------------------------------------------------------------------------------


def clip_sample(ids_per_frame, size=SIZE):
    """Object i covers rows 12 i to 12 i + 12."""
    frames = []
    for ids in ids_per_frame:
        masks = np.zeros((len(ids), *SIZE), dtype=np.uint8)
        for n, i in enumerate(ids):
            masks[n, 12 * i : 12 * i + 12, 8:40] = 1
        frame = DetDataSample(metainfo=dict(img_shape=size, batch_input_shape=SIZE))
        frame.gt_instances = InstanceData(
            bboxes=torch.tensor([[8, 12 * i, 40, 12 * i + 12] for i in ids]).float().reshape(-1, 4),
            labels=torch.tensor(ids).long() % 6,
            masks=BitmapMasks(masks, *SIZE),
            instances_ids=torch.tensor(ids).int(),
        )
        frames.append(frame)
    sample = TrackDataSample()
    sample.video_data_samples = frames
    return sample


def batch():
    """Two clips of 3 frames, one of them smaller; objects come and go."""
    samples = [clip_sample([[1, 2], [1], [0, 1]]), clip_sample([[0], [], [0]], size=(40, 64))]
    inputs = torch.stack([video(8, 3), video(9, 3)])
    inputs[1, :, :, 40:], inputs[1, :, :, :, 64:] = 0, 0
    return inputs, samples


TERMS = ("cls", "bbox", "iou", "mask", "dice")


def test_losses_of_every_layer_and_their_gradients():
    model = build().train()
    losses = model.loss(*batch())
    expected = {f"d{n}.loss_{x}" for n in range(3) for x in TERMS}
    assert set(losses) == expected | {"loss_separability", "loss_discriminator"}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("config", ["mssts_r18_decoder_shapes", "mssts_r18_shapes"])
def test_clips_without_objects_train(config):
    model = build(config).train()
    losses = model.loss(video(8, 3)[None], [clip_sample([[], [], []])])
    zero = [name for name in losses if not re.search("cls|discriminator|separability", name)]
    assert len(zero) == 12 and all(losses[name] == 0 for name in zero)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    trainable = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert not [n for n, grad in trainable.items() if grad is None or not grad.isfinite().all()]


def test_padding_is_no_feature():
    """What the backbone makes of the padding of a smaller clip reaches no valid token."""
    model = confident(build("mssts_r18_decoder_shapes"))
    for layer in model.encoder.layers:
        for branch in (layer.ms_sts.intra, layer.ms_sts.inter):
            torch.nn.init.normal_(branch.out_proj.weight, std=0.1)
    inputs, _ = batch()
    seen = []
    with torch.no_grad():
        encode = model.encoder.forward
        for change in (0, 3):

            def changed(features, position, change=change):
                tokens = features.tokens + change * features.padding[:, None, :, None]
                return encode(features._replace(tokens=tokens), position)

            model.encoder.forward = changed
            features = model.encode(inputs, [SIZE, (40, 64)])
            valid = features.tokens[1][:, ~features.padding[1]]
            seen.append((valid, *model.decoder(features)[-1][:3]))
    assert features.padding.any(1).tolist() == [False, True]
    torch.testing.assert_close(features.valid_ratios[1, 0], torch.tensor([64 / 96, 40 / 64]))
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other)


def test_activation_checkpointing_changes_nothing(monkeypatch):
    checkpointed = []

    def counting(layer, *args, **kwargs):
        checkpointed.append(layer)
        return checkpoint(layer, *args, **kwargs)

    for part in ("encoder", "decoder"):
        monkeypatch.setattr(f"mmvis_plugin.models.mssts.{part}.checkpoint", counting)
    inputs, samples = batch()
    gradients = []
    for with_cp in (False, True):
        model = build(encoder__with_cp=with_cp, decoder__with_cp=with_cp).train()
        checkpointed.clear()
        sum(model.loss(inputs, samples).values()).backward()
        layers = [*model.encoder.layers, *model.decoder.layers]
        assert checkpointed == (layers if with_cp else [])
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    # Sums in another order round differently: by the size of their terms, not of what is left.
    for name, gradient in gradients[0].items():
        allowed = 1e-5 * gradient.abs().max().item()
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=allowed, msg=name)


def test_training_in_bfloat16():
    model = build().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.loss(*batch())
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


# --- the additions ------------------------------------------------------------------------------

ADDITIONS = {
    "intra": (dict(encoder__ms_sts=MS_STS | dict(inter=False)), ("ms_sts.intra",)),
    "inter": (dict(encoder__ms_sts=MS_STS | dict(intra=False)), ("ms_sts.inter",)),
    "decoder": (dict(decoder__temporal_attention=True), ("temporal.",)),
    "all": (
        dict(encoder__ms_sts=MS_STS, decoder__temporal_attention=True),
        ("ms_sts.intra", "ms_sts.inter", "temporal."),
    ),
}


def raw_outputs(model, inputs):
    with torch.no_grad():
        features = model.encode(inputs, [SIZE, (40, 64)])
        last = model.decoder(features)[-1]
    return last.logits, last.boxes, last.queries


@pytest.mark.parametrize("name", ADDITIONS)
def test_untrained_additions_change_nothing_and_learn(name):
    """SeqFormer's weights give SeqFormer's outputs; each branch learns from the second step on."""
    changes, branches = ADDITIONS[name]
    seqformer = confident(build("seqformer_r18_shapes"))
    model = build("seqformer_r18_shapes", seed=5, **changes)
    missing, unexpected = model.load_state_dict(seqformer.state_dict(), strict=False)
    assert not unexpected and missing
    assert all(any(branch in key for branch in branches) for key in missing)
    inputs, samples = batch()
    for ours, expected in zip(
        raw_outputs(model, inputs), raw_outputs(seqformer, inputs), strict=True
    ):
        assert torch.equal(ours, expected)

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        sum(model.loss(inputs, samples).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    for branch in branches:
        learnt = [n for n, p in model.named_parameters() if branch in n and p.grad.abs().max() > 0]
        for part in ("norm.weight", "in_proj.weight", "out_proj.weight"):
            layers = [key for key in learnt if key.endswith(part)]
            assert len(layers) == 3, (branch, part)
    # With the trained branches set back to zero the outputs are others.
    trained = raw_outputs(model.eval(), inputs)
    for key, parameter in model.named_parameters():
        if "out_proj" in key and any(branch in key for branch in branches):
            parameter.data.zero_()
    assert not torch.equal(raw_outputs(model, inputs)[0], trained[0])


def test_switches_of_the_configs():
    for config, intra, inter, decoder, discriminator in (
        ("seqformer_r18_shapes", False, False, False, False),
        ("mssts_r18_intra_shapes", True, False, False, False),
        ("mssts_r18_inter_shapes", False, True, False, False),
        ("mssts_r18_both_shapes", True, True, False, False),
        ("mssts_r18_decoder_shapes", True, True, True, False),
        ("mssts_r18_shapes", True, True, True, True),
    ):
        names = [name for name, _ in build(config).named_parameters()]
        found = [
            any(part in name for name in names)
            for part in ("ms_sts.intra", "ms_sts.inter", "temporal.", "discriminator.")
        ]
        assert found == [intra, inter, decoder, discriminator], config


def test_shipped_weights_are_small():
    parameters = {n: p.numel() for n, p in build().named_parameters() if "discriminator" not in n}
    assert sum(parameters.values()) < 4.2e6


# --- what the discriminator looks at --------------------------------------------------------------


def test_foreground_is_the_union_of_the_matched_instances():
    inputs, samples = batch()
    model = build().train()
    losses, views = model.loss_and_foreground(inputs, samples)
    assert not any("separability" in name or "discriminator" in name for name in losses)
    assert torch.equal(views.frames, inputs.flatten(0, 1))
    assert [x.shape for x in views.features] == [
        (6, 96, 16, 24),
        (6, 96, 8, 12),
        (6, 96, 4, 6),
    ]
    assert views.predicted.shape == views.true.shape == (6, 1, 16, 24)
    assert (
        views.predicted.requires_grad and 0 <= views.predicted.min() <= views.predicted.max() <= 1
    )
    objects = [[1, 2], [1], [0, 1], [0], [], [0]]
    for t, ids in enumerate(objects):
        rows = views.true[t, 0].any(1).nonzero()[:, 0].tolist()
        assert rows == sorted({r for i in ids for r in range(3 * i, 3 * i + 3)})
    assert set(views.true.unique().tolist()) == {0.0, 1.0}


CLIPS = torch.tensor([0, 0, 1])  # of three instances


def test_soft_union_frame_by_frame():
    torch.manual_seed(0)
    masks = torch.randn(3, 2, 8, 12)
    frames, maps, clips = torch.zeros(2, 2, 3, 16, 24), [torch.zeros(2, 2, 5, 4, 6)], CLIPS
    predicted = foreground_views(frames, maps, masks, torch.zeros(3, 2, 8, 12), clips).predicted
    p = masks.sigmoid()
    unions = torch.stack([1 - (1 - p[0]) * (1 - p[1]), p[2]])
    expected = torch.nn.functional.avg_pool2d(unions, 2).flatten(0, 1)
    torch.testing.assert_close(predicted[:, 0], expected)


def test_a_perfect_prediction_cannot_be_told_from_the_truth():
    """Also at the edges of objects, where a cell is partly of them."""
    torch.manual_seed(0)
    true = torch.randint(0, 2, (3, 2, 8, 12), dtype=torch.uint8)
    frames, maps = torch.zeros(2, 2, 3, 16, 24), [torch.zeros(2, 2, 5, 4, 6)]
    logits = (true.float() - 0.5) * 200
    views = foreground_views(frames, maps, logits, true, CLIPS)
    torch.testing.assert_close(views.predicted, views.true)
    assert 0.25 in views.true


def test_without_a_discriminator_there_are_no_views():
    model = build("mssts_r18_decoder_shapes").train()
    _, views = model.loss_and_foreground(*batch())
    assert views is None
