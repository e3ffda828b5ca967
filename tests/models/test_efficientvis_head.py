"""EfficientVIS's stages: against the paper's equations in loops, against MMDetection, padding."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.registry import init_default_scope
from torch.utils.checkpoint import checkpoint

from mmvis_plugin.models.efficientvis import tracklet_head
from mmvis_plugin.models.efficientvis.temporal_dynamic_conv import adaptive_weights
from mmvis_plugin.models.efficientvis.tracklet_head import mean_over_time

CHANNELS, HIDDEN, CLASSES, SIZE, GRID = 16, 4, 3, 6, 3
B, N, T = 2, 3, 4


def conv_cfg(**changes):
    return (
        dict(
            type="TemporalDynamicConv",
            in_channels=CHANNELS,
            feat_channels=HIDDEN,
            out_channels=CHANNELS,
            input_feat_shape=GRID,
        )
        | changes
    )


def stage_cfg(dynamic_conv_cfg=None, **changes):
    return (
        dict(
            type="TrackletStage",
            num_classes=CLASSES,
            in_channels=CHANNELS,
            num_heads=2,
            feedforward_channels=32,
            dynamic_conv_cfg=dynamic_conv_cfg or conv_cfg(),
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoder", clip_border=False, target_stds=[0.5, 0.5, 1.0, 1.0]
            ),
            mask_head=dict(
                type="FCNMaskHead",
                num_convs=2,
                in_channels=CHANNELS,
                conv_out_channels=CHANNELS,
                num_classes=CLASSES,
                class_agnostic=True,
            ),
        )
        | changes
    )


def head_cfg(stage, num_stages=3, size=SIZE, **changes):
    return (
        dict(
            type="TrackletHead",
            num_queries=N,
            num_stages=num_stages,
            roi_extractor=dict(
                type="Float32RoIExtractor",
                roi_layer=dict(type="RoIAlign", output_size=size, sampling_ratio=2),
                out_channels=CHANNELS,
                featmap_strides=[4, 8],
            ),
            stage=stage,
        )
        | changes
    )


def build(cfg):
    """A module whose parameters are all random, so that none of them is without effect."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    module = MODELS.build(cfg)
    for parameter in module.parameters():
        parameter.data.normal_(std=0.3 if parameter.dim() > 1 else 0.2)
    for name, parameter in module.named_parameters():
        if name.endswith("init_proposal_bboxes.weight"):
            parameter.data.mul_(0.1).add_(torch.tensor([0.5, 0.5, 0.6, 0.6]))
    for layer in module.modules():
        if isinstance(layer, torch.nn.LayerNorm):
            layer.weight.data += 1
    return module.eval()


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention_by_hand(attention, norm, tokens):
    """Multi-head self-attention with shortcut and norm, (L, C), head by head."""
    mha = attention.attn
    q, k, v = (tokens @ mha.in_proj_weight.T + mha.in_proj_bias).chunk(3, dim=-1)
    width = CHANNELS // mha.num_heads
    heads = []
    for h in range(mha.num_heads):
        part = slice(h * width, (h + 1) * width)
        weights = (q[:, part] @ k[:, part].T / width**0.5).softmax(-1)
        heads.append(weights @ v[:, part])
    out = torch.cat(heads, dim=-1) @ mha.out_proj.weight.T + mha.out_proj.bias
    return norm(tokens + out)


# --- self-attention -----------------------------------------------------------------------------


def test_factorised_attention_is_equations_1_and_2():
    stage = build(stage_cfg())
    queries = random(B, N, T, CHANNELS)
    expected = queries.clone()
    for b in range(B):
        for i in range(N):  # Eq. 1
            expected[b, i] = attention_by_hand(
                stage.temporal_attention, stage.temporal_attention_norm, expected[b, i]
            )
        for t in range(T):  # Eq. 2
            expected[b, :, t] = attention_by_hand(
                stage.attention, stage.attention_norm, expected[b, :, t]
            )
    torch.testing.assert_close(stage.attend(queries), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", ["spatial", "temporal", "joint"])
def test_other_attentions(scheme):
    stage = build(stage_cfg(self_attention=scheme))
    queries = random(B, N, T, CHANNELS)
    expected = queries.clone()
    for b in range(B):
        if scheme == "joint":
            tokens = queries[b].reshape(N * T, CHANNELS)
            joint = attention_by_hand(stage.attention, stage.attention_norm, tokens)
            expected[b] = joint.view(N, T, CHANNELS)
        elif scheme == "spatial":
            for t in range(T):
                expected[b, :, t] = attention_by_hand(
                    stage.attention, stage.attention_norm, queries[b, :, t]
                )
        else:
            for i in range(N):
                expected[b, i] = attention_by_hand(
                    stage.temporal_attention, stage.temporal_attention_norm, queries[b, i]
                )
    torch.testing.assert_close(stage.attend(queries), expected, rtol=1e-4, atol=1e-5)
    assert hasattr(stage, "attention") == (scheme != "temporal")
    assert hasattr(stage, "temporal_attention") == (scheme == "temporal")


def test_unknown_attention_and_class_specific_masks_are_named():
    init_default_scope("mmdet")
    with pytest.raises(ValueError, match="self_attention is 'both'; choose one of factorised"):
        MODELS.build(stage_cfg(self_attention="both"))
    cfg = stage_cfg()
    cfg["mask_head"] = dict(cfg["mask_head"], class_agnostic=False)
    with pytest.raises(ValueError, match="class_agnostic=True"):
        MODELS.build(cfg)


# --- temporal dynamic convolution ---------------------------------------------------------------


def filtered_by_hand(conv, query, roi):
    """conv2d(w, roi) with the two 1 x 1 kernels that the query generates; roi (C, S, S)."""
    parameters = conv.dynamic_layer(query)
    first = parameters[: CHANNELS * HIDDEN].view(CHANNELS, HIDDEN).T[..., None, None]
    second = parameters[CHANNELS * HIDDEN :].view(HIDDEN, CHANNELS).T[..., None, None]
    x = F.conv2d(roi[None], first)[0].permute(1, 2, 0)
    x = F.relu(conv.norm_in(x)).permute(2, 0, 1)
    x = F.conv2d(x[None], second)[0].permute(1, 2, 0)
    return F.relu(conv.norm_out(x)).permute(2, 0, 1)


def tdc_by_hand(conv, queries, rois, lengths, reach=1):
    """Eq. 3, pixel by pixel."""
    out = torch.zeros_like(rois)
    for b in range(rois.shape[0]):
        for i in range(rois.shape[1]):
            for t in range(lengths[b]):
                near = [s for s in range(t - reach, t + reach + 1) if 0 <= s < lengths[b]]
                maps = [filtered_by_hand(conv, queries[b, i, t], rois[b, i, s]) for s in near]
                own = maps[near.index(t)]
                for y in range(SIZE):
                    for x in range(SIZE):
                        cosines = torch.stack(
                            [F.cosine_similarity(m[:, y, x], own[:, y, x], dim=0) for m in maps]
                        )
                        weights = cosines.softmax(0)
                        assert torch.isclose(weights.sum(), torch.tensor(1.0))
                        out[b, i, t, :, y, x] = sum(
                            w * m[:, y, x] for w, m in zip(weights, maps, strict=True)
                        )
    return out


@pytest.mark.parametrize("temporal", [True, False])
def test_temporal_dynamic_convolution_is_equation_3(temporal):
    conv = build(conv_cfg(temporal=temporal))
    queries = random(B, N, T, CHANNELS)
    rois = random(B, N, T, CHANNELS, SIZE, SIZE, seed=2)
    expected = tdc_by_hand(conv, queries, rois, [T] * B, reach=int(temporal))
    torch.testing.assert_close(conv(queries, rois), expected, rtol=1e-4, atol=1e-5)


def test_padding_is_not_a_neighbour():
    conv = build(conv_cfg())
    queries = random(B, N, T, CHANNELS)
    rois = random(B, N, T, CHANNELS, SIZE, SIZE, seed=2)
    lengths = [T, 2]
    valid = torch.arange(T) < torch.tensor(lengths)[:, None]
    expected = tdc_by_hand(conv, queries, rois, lengths)
    actual = conv(queries, rois, valid)
    assert actual.isfinite().all()
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual[1, :, :2], expected[1, :, :2], rtol=1e-4, atol=1e-5)


def test_a_single_frame_has_no_neighbours():
    queries = random(B, N, 1, CHANNELS)
    rois = random(B, N, 1, CHANNELS, SIZE, SIZE, seed=2)
    outputs = [build(conv_cfg(temporal=temporal))(queries, rois) for temporal in (True, False)]
    torch.testing.assert_close(*outputs)


# --- the same numbers as MMDetection ------------------------------------------------------------


def features(num_frames, seed=3):
    return tuple(
        random(num_frames, CHANNELS, 48 // stride, 64 // stride, seed=seed) for stride in (4, 8)
    )


def test_one_iteration_is_mmdetections_on_one_frame():
    """T = 1, still convolution, spatial attention, RoIs of the projection's size: the class logits,
    boxes and queries of a stage are those of SparseRoIHead with DIIHead."""
    stage = stage_cfg(conv_cfg(temporal=False), self_attention="spatial")
    head = build(head_cfg(stage, num_stages=1, size=GRID))
    theirs = MODELS.build(
        dict(
            type="SparseRoIHead",
            num_stages=1,
            stage_loss_weights=[1],
            proposal_feature_channel=CHANNELS,
            bbox_roi_extractor=dict(
                type="SingleRoIExtractor",
                roi_layer=dict(type="RoIAlign", output_size=GRID, sampling_ratio=2),
                out_channels=CHANNELS,
                featmap_strides=[4, 8],
            ),
            bbox_head=dict(
                type="DIIHead",
                num_classes=CLASSES,
                num_heads=2,
                in_channels=CHANNELS,
                feedforward_channels=32,
                dynamic_conv_cfg=dict(
                    type="DynamicConv",
                    in_channels=CHANNELS,
                    feat_channels=HIDDEN,
                    out_channels=CHANNELS,
                    input_feat_shape=GRID,
                ),
                loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False),
                bbox_coder=stage["bbox_coder"],
            ),
            test_cfg=dict(),
        )
    ).eval()
    theirs.bbox_head[0].load_state_dict(
        {k: v for k, v in head.stages[0].state_dict().items() if not k.startswith("mask_head")}
    )
    x, queries = features(B), random(B, N, CHANNELS)
    image_sizes = torch.tensor([[48.0, 64.0]] * B)
    proposals = head.initial_proposals(image_sizes)
    metas = [dict(img_shape=(48, 64))] * B
    expected = theirs._bbox_forward(0, x, bbox2roi(list(proposals)), queries, metas)

    (prediction,), out = head(x, queries, image_sizes)
    torch.testing.assert_close(prediction.logits[:, :, 0], expected["cls_score"])
    boxes = torch.stack(expected["detached_proposals"])
    torch.testing.assert_close(prediction.boxes[:, :, 0], boxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(out[:, :, 0], expected["object_feats"])


def test_masks_are_queryinsts_where_its_two_dynamic_convolutions_are_one():
    """QueryInst generates a second filter for the mask from the same query. With the weights of the
    first one, its mask features are our tracklet features and its masks ours."""
    stage = build(stage_cfg(conv_cfg(temporal=False), self_attention="spatial"))
    theirs = MODELS.build(
        dict(
            type="DynamicMaskHead",
            num_convs=2,
            roi_feat_size=SIZE,
            in_channels=CHANNELS,
            conv_out_channels=CHANNELS,
            num_classes=1,
            dynamic_conv_cfg=dict(
                type="DynamicConv",
                in_channels=CHANNELS,
                feat_channels=HIDDEN,
                out_channels=CHANNELS,
                input_feat_shape=SIZE,
                with_proj=False,
            ),
        )
    ).eval()
    conv = stage.instance_interactive_conv.state_dict()
    shared = {f"instance_interactive_conv.{k}": v for k, v in conv.items() if "fc_" not in k}
    theirs.load_state_dict(shared | stage.mask_head.state_dict())
    queries = random(B, N, 1, CHANNELS)
    rois = random(B, N, 1, CHANNELS, SIZE, SIZE, seed=2)
    _, tracklet_features = stage.interact(queries, rois)
    masks = stage.segment(tracklet_features)
    attended = stage.attend(queries)
    expected = theirs(rois.flatten(0, 2), attended.flatten(0, 2))[:, 0]
    torch.testing.assert_close(masks.flatten(0, 2), expected, rtol=1e-4, atol=1e-5)


def test_larger_rois_are_averaged_to_the_grid_of_the_projection():
    conv = build(conv_cfg())
    o = random(1, 1, 1, CHANNELS, SIZE, SIZE)
    cells = o[0, 0, 0].unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2))  # (C, 3, 3)
    flat = cells.permute(1, 2, 0).flatten()
    expected = F.relu(conv.fc_norm(conv.fc_layer(flat)))
    torch.testing.assert_close(conv.project(o)[0, 0, 0], expected, rtol=1e-4, atol=1e-5)


# --- the whole head -----------------------------------------------------------------------------

SCHEMES = [dict(self_attention=s) for s in ("factorised", "spatial", "temporal", "joint")]


def run(head, x, queries, valid=None):
    return head(x, queries, torch.tensor([[40.0, 60.0]] * len(queries)), valid)


def test_initial_tracklets_are_whole_frames_all_alike_in_time():
    init_default_scope("mmdet")
    head = MODELS.build(head_cfg(stage_cfg()))
    head.init_weights()
    proposals = head.initial_proposals(torch.tensor([[40.0, 60.0], [20.0, 10.0]]))
    assert proposals.tolist() == [[[0, 0, 60, 40]] * N, [[0, 0, 10, 20]] * N]
    # Untrained stages leave the proposals as they are.
    (prediction,), _ = run(head.eval(), features(T), head.initial_queries[None])
    assert torch.equal(prediction.boxes, torch.tensor([0.0, 0, 60, 40]).expand(1, N, T, 4))


@pytest.mark.parametrize("changes", [*SCHEMES, dict(time_shared=True)], ids=str)
def test_padding_changes_nothing(changes):
    """A clip of 3 frames in a batch with one of 4 gives what it gives by itself."""
    head = build(head_cfg(stage_cfg(**changes)))
    queries = random(2, N, CHANNELS)
    long, short = features(T, seed=4), features(3, seed=5)
    padded = tuple(
        torch.cat([a, b, random(1, *b.shape[1:], seed=6)]) for a, b in zip(long, short, strict=True)
    )
    valid = torch.tensor([[True] * 4, [True] * 3 + [False]])
    (together,), out = run(head, padded, queries, valid)
    assert together.logits.isfinite().all() and together.masks.isfinite().all()
    for row, x, length in ((0, long, 4), (1, short, 3)):
        (alone,), alone_out = run(head, x, queries[row : row + 1])
        for name in ("logits", "boxes", "masks", "mask_boxes"):
            a, b = getattr(together, name)[row, :, :length], getattr(alone, name)[0]
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
        means = mean_over_time(out, valid)[row], mean_over_time(alone_out)[0]
        torch.testing.assert_close(*means, rtol=1e-4, atol=1e-4)


def test_frames_see_each_other_through_attention_and_convolution():
    """What a change of the last frame changes elsewhere, scheme by scheme, after one stage."""

    def touched(changes):
        head = build(head_cfg(stage_cfg(**changes), num_stages=1))
        x, queries = features(T), random(1, N, CHANNELS)
        other = tuple(torch.cat([level[:-1], level[-1:] + 1]) for level in x)
        a, b = (run(head, levels, queries)[0][0].logits for levels in (x, other))
        return (a != b).any(-1)[0].any(0).tolist()

    # Queries are all alike in time before the first stage, so only the convolution carries it.
    assert touched({}) == [False, False, True, True]
    assert touched(dict(dynamic_conv_cfg=conv_cfg(temporal=False))) == [False] * 3 + [True]


def test_time_shared_queries_are_one_for_the_clip():
    head = build(head_cfg(stage_cfg(time_shared=True)))
    predictions, queries = run(head, features(T), random(1, N, CHANNELS))
    assert torch.equal(queries, queries[:, :, :1].expand_as(queries))
    logits = predictions[-1].logits[0]
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    disentangled = build(head_cfg(stage_cfg()))
    _, queries = run(disentangled, features(T), random(1, N, CHANNELS))
    assert not torch.allclose(queries[:, :, 0], queries[:, :, 1])


def test_every_stage_predicts_in_training_the_last_one_at_test_time():
    head = build(head_cfg(stage_cfg()))
    x, queries = features(B * T), random(B, N, CHANNELS)
    tested = run(head, x, queries)[0]
    trained = run(head.train(), x, queries)[0]
    assert len(tested) == 1 and len(trained) == 3
    for name in ("logits", "boxes", "masks", "mask_boxes"):
        assert torch.equal(getattr(tested[0], name), getattr(trained[-1], name))
    # Masks lie in the proposals that a stage starts from; what it refines goes to the next.
    assert torch.equal(trained[1].mask_boxes, trained[0].boxes)
    assert not trained[1].mask_boxes.requires_grad and trained[0].mask_boxes.requires_grad


@pytest.mark.parametrize("changes", [*SCHEMES, dict(time_shared=True)], ids=str)
def test_checkpointing_changes_neither_losses_nor_gradients(changes, monkeypatch):
    checkpointed = []

    def counting(run_stage, stage, *args, **kwargs):
        checkpointed.append(stage)
        return checkpoint(run_stage, stage, *args, **kwargs)

    monkeypatch.setattr(tracklet_head, "checkpoint", counting)

    def gradients(with_cp):
        head = build(head_cfg(stage_cfg(**changes), with_cp=with_cp)).train()
        checkpointed.clear()
        predictions, queries = run(head, features(T), head.initial_queries[None])
        assert checkpointed == (list(head.stages) if with_cp else [])
        total = queries.square().sum()
        for p in predictions:
            total = total + p.logits.square().sum() + p.masks.mean() + p.boxes.mean()
        total.backward()
        return {name: p.grad.clone() for name, p in head.named_parameters()}

    plain, checkpointed = gradients(False), gradients(True)
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0 or "temporal_attention" in name, name
        torch.testing.assert_close(checkpointed[name], gradient)


def test_adaptive_weights_are_not_rounded_under_autocast():
    filtered, exists = random(2, 3, 4, CHANNELS), torch.ones(2, 3, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = adaptive_weights(filtered, exists)
    assert weights.equal(adaptive_weights(filtered, exists))


def test_autocast_keeps_boxes_classes_and_masks_in_float32():
    head = build(head_cfg(stage_cfg()))
    x, queries = features(T), random(1, N, CHANNELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (prediction,), _ = run(head, x, queries)
    (reference,), _ = run(copy.deepcopy(head), x, queries)
    for name in ("logits", "boxes", "masks"):
        value = getattr(prediction, name)
        assert value.dtype == torch.float32 and value.isfinite().all()
    assert (prediction.boxes - reference.boxes).abs().median() < 0.3
    torch.testing.assert_close(prediction.logits, reference.logits, rtol=0, atol=0.1)
