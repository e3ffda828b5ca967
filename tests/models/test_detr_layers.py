"""The layers of VisTR and IFC against MMDetection's."""

import pytest
import torch
from mmdet.models.layers import (
    DetrTransformerDecoder,
    DetrTransformerEncoderLayer,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmvis_plugin.models.layers import PostNormDecoder, PostNormEncoderLayer

CHANNELS, HEADS, HIDDEN = 24, 4, 40


def attention_config(dropout: float) -> dict:
    # Each time a new dict for the rate: mmcv writes into the default of its argument.
    residual = dict(type="Dropout", drop_prob=dropout)
    return dict(embed_dims=CHANNELS, num_heads=HEADS, attn_drop=dropout, dropout_layer=residual)


def ffn_config(dropout: float) -> dict:
    return dict(embed_dims=CHANNELS, feedforward_channels=HIDDEN, num_fcs=2, ffn_drop=dropout)


def encoder_layers(dropout: float) -> tuple[nn.Module, nn.Module]:
    ours = PostNormEncoderLayer(CHANNELS, HEADS, HIDDEN, dropout)
    theirs = DetrTransformerEncoderLayer(attention_config(dropout), ffn_config(dropout))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def decoders(dropout: float) -> tuple[nn.Module, nn.Module]:
    ours = PostNormDecoder(3, CHANNELS, HEADS, HIDDEN, dropout)
    layer = dict(
        self_attn_cfg=attention_config(dropout),
        cross_attn_cfg=attention_config(dropout),
        ffn_cfg=ffn_config(dropout),
    )
    theirs = DetrTransformerDecoder(3, layer)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)
    shapes = dict(query=(2, 5, CHANNELS), query_pos=(2, 5, CHANNELS))
    shapes |= dict(key=(2, 37, CHANNELS), key_pos=(2, 37, CHANNELS))
    tokens = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tokens["key_padding_mask"] = torch.arange(37)[None] >= torch.tensor([[30], [37]])
    return tokens


def result_and_gradients(module: nn.Module, arguments: dict) -> list[torch.Tensor]:
    result = module(**arguments)
    torch.manual_seed(1)
    gradients = torch.autograd.grad((result * torch.randn_like(result)).sum(), module.parameters())
    return [result.detach(), *gradients]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(b.abs().max()) + 1e-9)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("positions", [True, False])
def test_encoder_layer_is_mmdetections(tokens, padded, positions):
    arguments = dict(
        query=tokens["key"],
        query_pos=tokens["key_pos"] if positions else None,
        key_padding_mask=tokens["key_padding_mask"] if padded else None,
    )
    ours, theirs = encoder_layers(dropout=0.0)
    assert_same(result_and_gradients(ours, arguments), result_and_gradients(theirs, arguments))


def test_decoder_is_mmdetections(tokens):
    arguments = tokens | dict(value=tokens["key"])
    ours, theirs = decoders(dropout=0.0)
    ours_all = result_and_gradients(ours, arguments)
    assert ours_all[0].shape == (3, 2, 5, CHANNELS)
    assert_same(ours_all, result_and_gradients(theirs, arguments))


def test_dropout_is_where_detr_has_it():
    """On the attention's weights, on both residuals, and between the layers of the FFN."""

    def rates(module: nn.Module) -> list[float]:
        children = module.modules()
        return sorted(
            child.p if isinstance(child, nn.Dropout) else child.dropout
            for child in children
            if isinstance(child, (nn.Dropout, nn.MultiheadAttention))
        )

    for pair in (encoder_layers(dropout=0.3), decoders(dropout=0.3)):
        ours, theirs = map(rates, pair)
        assert ours == theirs
        assert 0.3 in ours


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_no_matrix_of_queries_by_keys(dropout):
    """In inference and, without dropout, in training: MMDetection's layer makes one."""
    count = 600
    tokens = torch.randn(1, count, CHANNELS)
    largest = []
    for module in encoder_layers(dropout):
        module.train(dropout == 0)
        with LargestTensor() as mode:
            result = module(tokens, tokens, None)
            result.sum().backward()
        largest.append(mode.elements)
    ours, theirs = largest
    assert ours <= count * max(HIDDEN, 3 * CHANNELS)
    assert theirs == HEADS * count * count
