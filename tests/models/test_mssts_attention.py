"""Attention over time, within and between scales, against loops over positions and frames."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvis_plugin.models.mssts.deformable import FeatureLevels
from mmvis_plugin.models.mssts.encoder import SeqFormerEncoder
from mmvis_plugin.models.mssts.ms_sts_attention import (
    InterScaleAttention,
    MSSTSAttention,
    TemporalAttention,
    mean_over_cells,
    nearest_cells,
)

B, T, C, HEADS = 2, 3, 8, 2
SHAPES = ((5, 7), (3, 4), (2, 2))
P = sum(h * w for h, w in SHAPES)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def levels(shapes=SHAPES):
    return FeatureLevels.of([torch.zeros(1, *shape) for shape in shapes])


def randomise(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.double()


def slow_attention(block, tokens, places, keys=None):
    """Multi-head attention among S tokens (S, C) with positions, projected in but not out."""
    normed = torch.stack([block.norm(x) for x in tokens])
    weights, biases = block.in_proj.weight.split(C), block.in_proj.bias.split(C)
    query, key = ((normed + places) @ w.T + b for w, b in zip(weights[:2], biases[:2], strict=True))
    value = normed @ weights[2].T + biases[2]
    out = torch.zeros_like(value)
    size = C // HEADS
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = query[:, part] @ key[:, part].T / size**0.5
        if keys is not None:
            scores[:, ~keys] = -torch.inf
        out[:, part] = scores.softmax(1) @ value[:, part]
    return out


def test_each_place_attends_to_itself_over_time():
    block = randomise(TemporalAttention(C, HEADS))
    x = torch.randn(B, T, 6, C).double()
    out = block(x)
    for b in range(B):
        for n in range(6):
            expected = block.out_proj(slow_attention(block, x[b, :, n], 0))
            torch.testing.assert_close(out[b, :, n], expected)


def coarse_cell(i, j, fine, coarse):
    return (i * coarse[0] // fine[0]) * coarse[1] + j * coarse[1] // fine[1]


def slow_inter(block, x, position, padding):
    """Sums over pairs, for one clip: x (T, P, C), position (P, C), padding (P,) bool."""
    starts = levels().starts.tolist()
    sums = [torch.zeros(T, h * w, C).double() for h, w in SHAPES]
    for s in range(len(SHAPES) - 1):
        fine, coarse = SHAPES[s], SHAPES[s + 1]
        of_coarse = [[] for _ in range(coarse[0] * coarse[1])]
        for i in range(fine[0]):
            for j in range(fine[1]):
                a, cell = i * fine[1] + j, coarse_cell(i, j, fine, coarse)
                rows = [starts[s] + a, starts[s + 1] + cell]
                tokens = torch.cat([x[:, row] for row in rows])
                places = torch.cat([position[row].expand(T, -1) for row in rows])
                keys = torch.cat([(~padding[row]).expand(T) for row in rows])
                out = slow_attention(block, tokens, places, keys if keys.any() else None)
                sums[s][:, a] += out[:T]
                of_coarse[cell].append(out[T:])
        for cell, outs in enumerate(of_coarse):
            sums[s + 1][:, cell] += sum(outs) / len(outs)
    for s in range(1, len(SHAPES) - 1):
        sums[s] /= 2
    return block.out_proj(torch.cat(sums, 1))


@pytest.mark.parametrize("padded", [False, True])
def test_positions_attend_over_both_of_two_adjacent_scales(padded):
    block = randomise(InterScaleAttention(C, HEADS))
    x, position = torch.randn(B, T, P, C).double(), torch.randn(B, P, C).double()
    padding = torch.zeros(B, P, dtype=torch.bool)
    if padded:
        padding[1] = torch.rand(P) < 0.4
    out = block(x, position, levels(), padding if padded else None)
    for b in range(B):
        torch.testing.assert_close(out[b], slow_inter(block, x[b], position[b], padding[b]))


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99)
)
@settings(max_examples=50, deadline=None)
def test_cells_are_those_of_nearest_upsampling(height, width, rows, columns, seed):
    rows, columns = min(rows, height), min(columns, width)
    coarse = torch.randn(1, 1, rows, columns, generator=torch.Generator().manual_seed(seed))
    cells = nearest_cells((height, width), (rows, columns), "cpu")
    up = torch.nn.functional.interpolate(coarse, (height, width), mode="nearest")
    assert torch.equal(coarse.flatten()[cells], up.flatten())
    # Every coarse cell is copied to somewhere, and the mean over the copies gives it back.
    back = mean_over_cells(up.view(1, 1, -1, 1), cells, rows * columns)
    torch.testing.assert_close(back.flatten(), coarse.flatten())


@pytest.mark.parametrize(("intra", "inter"), [(True, False), (False, True), (True, True)])
def test_the_branches_are_added(intra, inter):
    block = randomise(MSSTSAttention(C, HEADS, intra, inter))
    x, position = torch.randn(B, T, P, C).double(), torch.randn(B, P, C).double()
    expected = torch.zeros_like(x)
    if intra:
        expected = expected + block.intra(x)
    if inter:
        expected = expected + block.inter(x, position, levels())
    torch.testing.assert_close(block(x, position, levels()), expected)
    assert (block.intra is None) != intra and (block.inter is None) != inter


@pytest.mark.parametrize("block", [TemporalAttention(C, HEADS), InterScaleAttention(C, HEADS)])
def test_untrained_blocks_add_nothing_and_learn(block):
    x, position = torch.randn(B, T, P, C), torch.randn(B, P, C)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    arguments = (x,) if isinstance(block, TemporalAttention) else (x, position, levels())
    for step in range(2):
        out = block(*arguments)
        assert (out.abs().max() == 0) == (step == 0)
        optimizer.zero_grad()
        (out - x).square().mean().backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for n, p in block.named_parameters() if n != "in_proj.bias")


def test_it_stands_inside_of_the_residual_before_the_norm():
    encoder = SeqFormerEncoder(
        num_layers=1,
        channels=C,
        num_heads=HEADS,
        num_levels=3,
        ffn_channels=16,
        ms_sts=dict(type="MSSTSAttention", intra=True, inter=False),
    ).eval()
    layer = randomise(encoder.layers[0])
    x, position = torch.randn(B, T, P, C).double(), torch.randn(B, P, C).double()
    references = torch.rand(B, P, 3, 2).double()
    out = layer(x, position, references, levels(), None)
    repeated = references[:, None].expand(-1, T, -1, -1, -1)
    sampled = layer.attention(x + position[:, None], repeated, x, levels())
    inside = x + layer.attention.output_proj(sampled)
    inside = inside + layer.ms_sts(inside, position, levels())
    torch.testing.assert_close(out, layer.norm2(layer.ffn(layer.norm1(inside))))


def test_frames_see_each_other_only_through_ms_sts():
    for ms_sts in (None, dict(type="MSSTSAttention", intra=True, inter=True)):
        layer = SeqFormerEncoder(1, C, HEADS, 3, 4, 16, 0.0, ms_sts).layers[0]
        randomise(layer)
        x, position = torch.randn(1, T, P, C).double(), torch.randn(1, P, C).double()
        references = torch.rand(1, P, 3, 2).double()
        changed = x.clone()
        changed[:, 1] += torch.randn(P, C)
        out = layer(x, position, references, levels(), None)
        other = layer(changed, position, references, levels(), None)
        same = [torch.allclose(out[:, t], other[:, t]) for t in range(T)]
        assert same == ([True, False, True] if ms_sts is None else [False] * 3)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="does nothing: use ms_sts=None"):
        MSSTSAttention(C, HEADS, intra=False, inter=False)
    with pytest.raises(ValueError, match="8 channels cannot be split among 3 heads"):
        TemporalAttention(C, 3)
