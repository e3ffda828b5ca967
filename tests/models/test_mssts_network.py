"""SeqFormer's encoder, decoder and mask head against loops over frames and instances."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention,
    multi_scale_deformable_attn_pytorch,
)

from mmvis_plugin.models.mssts.decoder import SeqFormerDecoder, SeqFormerDecoderLayer
from mmvis_plugin.models.mssts.deformable import (
    FeatureLevels,
    _sample_bags,
    _sample_maps,
    sample_levels,
)
from mmvis_plugin.models.mssts.encoder import (
    ClipFeatures,
    SeqFormerEncoder,
    SeqFormerEncoderLayer,
    token_centers,
)
from mmvis_plugin.models.mssts.mask_head import SeqFormerMaskHead, upsample_twice

B, T, Q, C, HEADS = 2, 3, 5, 16, 2
SHAPES = ((6, 9), (3, 5), (2, 3))
LAYER = dict(channels=C, num_heads=HEADS, num_levels=3, num_points=4, ffn_channels=24, dropout=0.1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randomise(module):
    """Every parameter at random: nothing hides behind an initial zero or one."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module.double().eval()


def levels():
    return FeatureLevels.of([torch.zeros(1, *shape) for shape in SHAPES])


def padding_mask():
    """The second clip is padded to the right and below."""
    masks = []
    for height, width in SHAPES:
        mask = torch.zeros(B, height, width, dtype=torch.bool)
        mask[1, math.ceil(height * 0.7) :] = True
        mask[1, :, math.ceil(width * 0.6) :] = True
        masks.append(mask)
    ratios = [
        torch.tensor([[1.0, 1.0], [math.ceil(w * 0.6) / w, math.ceil(h * 0.7) / h]])
        for h, w in SHAPES
    ]
    return torch.cat([m.flatten(1) for m in masks], 1), torch.stack(ratios, 1).double()


def features(channels=C):
    padding, valid_ratios = padding_mask()
    tokens = torch.randn(B, T, padding.shape[1], channels).double()
    return ClipFeatures(tokens, levels(), valid_ratios, padding)


def original_attention(ours, query, value, references, padding, identity):
    """mmcv's module on one frame: query (Q, C), references (Q, L, 2 or 4)."""
    attention = MultiScaleDeformableAttention(C, HEADS, 3, 4, dropout=0.0, batch_first=True)
    attention = attention.double().eval()
    attention.load_state_dict(ours.state_dict())
    return attention(
        query[None],
        value=value[None],
        identity=identity[None],
        key_padding_mask=padding[None],
        reference_points=references[None],
        spatial_shapes=torch.tensor(SHAPES),
        level_start_index=levels().starts,
    )[0]


# --- sampling -----------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    shapes=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3),
    heads=st.integers(1, 3),
    points=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_sampling_equals_mmcv_inside_and_outside_of_the_frame(seed, shapes, heads, points):
    generator = torch.Generator().manual_seed(seed)
    scales = FeatureLevels.of([torch.zeros(1, *shape) for shape in shapes])
    draw = dict(generator=generator, dtype=torch.float64)
    value = torch.randn(2, sum(scales.counts()), heads, 3, **draw)
    locations = torch.rand(2, 4, heads, len(shapes), points, 2, **draw) * 2 - 0.5
    weights = torch.randn(2, 4, heads, len(shapes), points, **draw)
    expected = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    for function in (_sample_bags, _sample_maps):
        torch.testing.assert_close(function(value, scales, locations, weights), expected)


def test_both_ways_of_sampling_are_used():
    """With gradient and without; the results are the same to the last digits."""
    scales = levels()
    value = torch.randn(1, sum(scales.counts()), HEADS, 8, requires_grad=True)
    locations, weights = torch.rand(1, 7, HEADS, 3, 4, 2), torch.rand(1, 7, HEADS, 3, 4)
    with_gradient = sample_levels(value, scales, locations, weights)
    assert with_gradient.requires_grad
    with torch.no_grad():
        without = sample_levels(value, scales, locations, weights)
    torch.testing.assert_close(with_gradient, without)


# --- encoder ------------------------------------------------------------------------------------


def test_centers_of_tokens():
    _, valid_ratios = padding_mask()
    centers = token_centers(levels(), valid_ratios)
    token = 6 * 9 + 1 * 5 + 3  # row 1, column 3 of the second scale
    for b in range(B):
        width, height = valid_ratios[b, 1] * torch.tensor([5, 3])
        inside = torch.tensor([3.5 / width, 1.5 / height])
        torch.testing.assert_close(centers[b, token], (inside * valid_ratios[b]).double())


def test_encoder_layer_is_that_of_deformable_detr_on_each_frame():
    layer = randomise(SeqFormerEncoderLayer(**LAYER))
    clip = features()
    position = torch.randn(B, clip.tokens.shape[2], C).double()
    centers = token_centers(clip.levels, clip.valid_ratios)
    out = layer(clip.tokens, position, centers, clip.levels, clip.padding)
    for b in range(B):
        for t in range(T):
            x = clip.tokens[b, t]
            x = original_attention(
                layer.attention, x + position[b], x, centers[b], clip.padding[b], identity=x
            )
            x = layer.norm1(x)
            first, second = layer.ffn.layers[0][0], layer.ffn.layers[1]
            x = layer.norm2(x + second(F.relu(first(x))))
            torch.testing.assert_close(out[b, t], x)


def test_encoder_adds_the_level_embedding_to_the_position(monkeypatch):
    encoder = randomise(SeqFormerEncoder(num_layers=1, **LAYER))
    clip, seen = features(), []
    forward = encoder.layers[0].forward
    monkeypatch.setattr(
        encoder.layers[0],
        "forward",
        lambda x, position, *a: seen.append(position) or forward(x, position, *a),
    )
    position = torch.randn(B, clip.tokens.shape[2], C).double()
    out = encoder(clip, position)
    assert out.tokens.shape == clip.tokens.shape and out.padding is clip.padding
    counts = [h * w for h, w in SHAPES]
    expected = [p + encoder.level_embed[i] for i, p in enumerate(position.split(counts, dim=1))]
    torch.testing.assert_close(seen[0], torch.cat(expected, 1))


def test_maps_are_the_tokens_of_each_scale():
    clip = features()
    fine, coarse = clip.maps(2)
    assert fine.shape == (B, T, C, 6, 9) and coarse.shape == (B, T, C, 3, 5)
    assert torch.equal(coarse[1, 2, :, 2, 4], clip.tokens[1, 2, 6 * 9 + 2 * 5 + 4])


# --- decoder ------------------------------------------------------------------------------------


def slow_decoder_layer(layer, queries, boxes, position, references, clip, b):
    """One clip: queries (Q, C), box queries T x (Q, C), references (T, Q, L, 2 or 4)."""

    def attend(attention, x):
        return attention(x + position, x + position, x)[0]

    queries = layer.norm_self(queries + attend(layer.self_attention, queries))
    new_boxes, of_frames = [], []
    for t in range(T):
        x = layer.box_norm_self(boxes[t] + attend(layer.box_self_attention, boxes[t]))
        arguments = (x + position, clip.tokens[b, t], references[t], clip.padding[b], 0 * x)
        of_frames.append(original_attention(layer.cross_attention, *arguments))
        # The box's output: the same samples through its own projection.
        state = copy.deepcopy(layer.cross_attention.output_proj.state_dict())
        layer.cross_attention.output_proj.load_state_dict(layer.box_output_proj.state_dict())
        x = layer.box_norm_cross(x + original_attention(layer.cross_attention, *arguments))
        layer.cross_attention.output_proj.load_state_dict(state)
        new_boxes.append(layer.box_norm_ffn(layer.box_ffn(x)))
    scores = [torch.exp(layer.frame_weight(x)) for x in new_boxes]
    gathered = sum(score * x for score, x in zip(scores, of_frames, strict=True)) / sum(scores)
    queries = layer.norm_cross(queries + gathered)
    return layer.norm_ffn(layer.ffn(queries)), torch.stack(new_boxes)


@pytest.mark.parametrize("first_layer", [True, False])
def test_decoder_layer_is_that_of_seqformer_frame_by_frame(first_layer):
    layer = randomise(SeqFormerDecoderLayer(**LAYER))
    clip = features()
    queries, position = torch.randn(2, B, Q, C).double()
    boxes = torch.randn(B, 1 if first_layer else T, Q, C).double()
    references = torch.rand(B, T, Q, 3, 2 if first_layer else 4).double()
    out, out_boxes = layer(
        queries, boxes, position, references, clip.tokens, clip.levels, clip.padding
    )
    assert out.shape == (B, Q, C) and out_boxes.shape == (B, T, Q, C)
    for b in range(B):
        expected, expected_boxes = slow_decoder_layer(
            layer, queries[b], boxes[b].expand(T, -1, -1), position[b], references[b], clip, b
        )
        torch.testing.assert_close(out[b], expected)
        torch.testing.assert_close(out_boxes[b], expected_boxes)


def test_frame_weights_pick_frames(monkeypatch):
    """With a weight that picks frame 1, the other frames' features do not reach the instances."""
    layer = randomise(SeqFormerDecoderLayer(**LAYER))
    clip = features()
    arguments = (
        torch.randn(B, Q, C).double(),
        torch.randn(B, T, Q, C).double(),
        torch.randn(B, Q, C).double(),
        torch.rand(B, T, Q, 3, 4).double(),
    )

    def run(tokens):
        return layer(*arguments, tokens, clip.levels, clip.padding)[0]

    scores = torch.tensor([-1e3, 0, -1e3]).double().view(1, 3, 1, 1)
    monkeypatch.setattr(
        layer.frame_weight, "forward", lambda boxes: scores.expand(*boxes.shape[:3], 1)
    )
    changed = clip.tokens.clone()
    changed[:, [0, 2]] += 1
    assert torch.equal(run(clip.tokens), run(changed))
    changed[:, 1] += 1
    assert not torch.allclose(run(clip.tokens), run(changed))


def decoder(**changes):
    return SeqFormerDecoder(**(dict(num_classes=4, num_layers=3, num_queries=Q, **LAYER) | changes))


def logit(x):
    return torch.log(x / (1 - x))


def test_boxes_are_refined_layer_by_layer_and_frame_by_frame(monkeypatch):
    model = randomise(decoder())
    clip, given, queries = features(), [], []
    for layer in model.layers:

        def forward(*arguments, forward=layer.forward):
            given.append(arguments[3])
            out = forward(*arguments)
            queries.append(out[1])
            return out

        monkeypatch.setattr(layer, "forward", forward)
    predictions = model(clip)
    position = model.query_embedding.weight[:, :C]
    start = model.reference_points(position).sigmoid().expand(B, T, Q, 2)
    for number, prediction in enumerate(predictions):
        # What the layer samples around, in units of the padded scales.
        scale = clip.valid_ratios.repeat(1, 1, start.shape[-1] // 2)[:, None, None]
        torch.testing.assert_close(given[number], start[:, :, :, None] * scale)
        torch.testing.assert_close(prediction.centers, start[..., :2])
        change = model.box_branches[number](queries[number])
        if number == 0:
            boxes = torch.cat([change[..., :2] + logit(start), change[..., 2:]], -1).sigmoid()
        else:
            boxes = (change + logit(start)).sigmoid()
        torch.testing.assert_close(prediction.boxes, boxes)
        torch.testing.assert_close(
            prediction.logits, model.class_branches[number](prediction.queries)
        )
        start = boxes


def test_references_after_the_first_layer_get_no_gradient():
    model = randomise(decoder())
    predictions = model(features())
    for number in (1, 2):
        assert not predictions[number].centers.requires_grad
    predictions[0].centers.sum().backward()
    assert model.reference_points.weight.grad.abs().sum() > 0


def test_branches_start_as_in_deformable_detr():
    model = decoder(unused_logits=(1, 1))
    assert model.first_class == 1
    assert model.class_branches[0].out_features == 6
    predictions = model.eval()(
        features()._replace(tokens=features().tokens.float(), valid_ratios=torch.ones(B, 3, 2))
    )
    torch.testing.assert_close(
        predictions[0].boxes[..., 2:], torch.full((B, T, Q, 2), torch.tensor(-2.0).sigmoid().item())
    )
    torch.testing.assert_close(predictions[2].boxes, predictions[0].boxes)
    for branch in model.class_branches:
        torch.testing.assert_close(branch.bias.sigmoid(), torch.full((6,), 0.01))


# --- masks --------------------------------------------------------------------------------------


def mask_head(**changes):
    settings_ = dict(channels=C, mid_channels=6, out_channels=8, hidden_channels=8, stride=8)
    return randomise(SeqFormerMaskHead(**(settings_ | changes)))


def test_mask_features_frame_by_frame():
    head, clip = mask_head(), features()
    out = head.mask_features(clip.maps(3))
    for b in range(B):
        for t in range(T):
            fine, middle, coarse = (scale[b, t][None] for scale in clip.maps(3))
            x = F.relu(head.fuse_convs[0](coarse))
            x = F.relu(head.fuse_convs[1](middle + F.interpolate(x, (3, 5), mode="nearest")))
            x = F.relu(head.fuse_convs[2](fine + F.interpolate(x, (6, 9), mode="nearest")))
            x = F.relu(head.out_convs[1](F.relu(head.out_convs[0](x))))
            torch.testing.assert_close(out[b, t], x[0])


def test_169_parameters_weights_first():
    head = mask_head()
    parameters = torch.arange(169.0)[None].repeat(2, 1)
    weights, biases = head.split_parameters(parameters)
    assert [w.shape[1:] for w in weights] == [(8, 10), (8, 8), (1, 8)]
    flat = [x[1].flatten() for x in (*weights, *biases)]
    assert [len(x) for x in flat] == [80, 64, 8, 8, 8, 1]
    assert torch.cat(flat).tolist() == list(range(169))


@pytest.mark.parametrize(("stride", "unit"), [(4, 1), (8, 1), (4, 32)])
def test_masks_instance_by_instance_and_frame_by_frame(stride, unit):
    head = mask_head(stride=stride, coordinate_unit=unit)
    clips = torch.tensor([0, 1, 1])
    shared = torch.randn(B, T, 8, 4, 6).double()
    queries = torch.randn(3, C).double()
    centers = torch.rand(3, T, 2).double() * 40
    out = head(shared, queries, centers, clips)
    assert out.shape == (3, T, 8, 12)
    numbers = head.controller(queries)
    for n in range(3):
        w1, w2, w3, b1, b2, b3 = numbers[n].split([80, 64, 8, 8, 8, 1])
        for t in range(T):
            inputs = torch.zeros(1, 10, 4, 6).double()
            for i in range(4):
                for j in range(6):
                    inputs[0, 0, i, j] = centers[n, t, 0] - (stride * j + stride // 2)
                    inputs[0, 1, i, j] = centers[n, t, 1] - (stride * i + stride // 2)
            inputs[0, :2] /= unit
            inputs[0, 2:] = shared[clips[n], t]
            x = F.relu(F.conv2d(inputs, w1.view(8, 10, 1, 1), b1))
            x = F.relu(F.conv2d(x, w2.view(8, 8, 1, 1), b2))
            x = F.conv2d(x, w3.view(1, 8, 1, 1), b3)
            torch.testing.assert_close(out[n, t], upsample_twice(x)[0, 0])


def test_upsampling_is_aligned():
    x = torch.randn(1, 1, 3, 4).double()
    out = upsample_twice(x)[0, 0]
    assert out.shape == (6, 8)
    torch.testing.assert_close(out[1::2, 1::2], x[0, 0])
    torch.testing.assert_close(out[2::2, 1::2], (x[0, 0, 1:] + x[0, 0, :-1]) / 2)
    torch.testing.assert_close(out[1::2, 2::2], (x[0, 0, :, 1:] + x[0, 0, :, :-1]) / 2)
    torch.testing.assert_close(out[0], out[1])
    torch.testing.assert_close(out[:, 0], out[:, 1])


def test_no_instances_no_masks():
    head = mask_head()
    nothing = torch.zeros(0, C).double()
    masks = head(
        torch.randn(B, T, 8, 4, 6).double(),
        nothing,
        torch.zeros(0, T, 2).double(),
        torch.zeros(0, dtype=torch.long),
    )
    assert masks.shape == (0, T, 8, 12)
