"""DETR's transformer layers without the attention weights; VisTR and IFC both use them.

They compute what MMDetection's DETR layers do and have the same parameters by the same names. But
mmcv's attention also asks PyTorch for its weights, which nobody reads, and PyTorch then keeps a
matrix of all queries by all keys for every head. VisTR and IFC attend over all cells of all frames
of a clip: thousands of queries and keys. Without the weights the matrix is never whole in memory.

The exception is training with dropout on the CPU, where PyTorch's blockwise kernel has no dropout.
"""

import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import MultiheadAttention
from mmdet.models.layers import (
    DetrTransformerDecoder,
    DetrTransformerDecoderLayer,
    DetrTransformerEncoderLayer,
)
from mmdet.registry import MODELS
from mmengine.model import ModuleList
from torch import Tensor, nn


class BlockwiseAttention(MultiheadAttention):
    """mmcv's attention with positions and residual, without its weights.

    Args:
        channels: C.
        num_heads: Divides C.
        dropout: Rate for the weights and for what is added to the residual.
    """

    def __init__(self, channels: int, num_heads: int, dropout: float) -> None:
        super().__init__(
            channels,
            num_heads,
            attn_drop=dropout,
            dropout_layer=dict(type="Dropout", drop_prob=dropout),
            batch_first=True,
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_pos: Tensor | None = None,
        key_pos: Tensor | None = None,
        attn_mask: None = None,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: (B, Q, C), also what is added to.
            key: (B, N, C).
            value: (B, N, C).
            query_pos: (B, Q, C) added to the queries.
            key_pos: (B, N, C) added to the keys.
            attn_mask: Must be None; MMDetection's layers pass it on.
            key_padding_mask: (B, N) bool, true for keys that only pad.

        Returns:
            (B, Q, C).
        """
        inputs = (
            query if query_pos is None else query + query_pos,
            key if key_pos is None else key + key_pos,
            value,
        )
        weights, biases = self.attn.in_proj_weight.chunk(3), self.attn.in_proj_bias.chunk(3)
        heads = (
            F.linear(x, weight, bias).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        attended = F.scaled_dot_product_attention(
            *heads,
            attn_mask=None if key_padding_mask is None else ~key_padding_mask[:, None, None],
            dropout_p=self.attn.dropout if self.training else 0.0,
        )
        attended = self.attn.out_proj(attended.transpose(1, 2).flatten(2))
        return query + self.dropout_layer(attended)


class PostNormEncoderLayer(DetrTransformerEncoderLayer):
    """Self-attention and a feed-forward network, a residual and a LayerNorm after each.

    Source: DETR (Carion et al., ECCV 2020), appendix A.3. ``layer(query, query_pos,
    key_padding_mask)`` takes and returns (B, N, C) tokens. The positions (B, N, C), or None, are
    added to queries and keys but not to values; the mask (B, N) bool, or None, is true for tokens
    that only pad. Matrices start Xavier uniform.

    Args:
        channels: C.
        num_heads: Divides C.
        ffn_channels: Hidden width of the feed-forward network.
        dropout: Rate in attention, feed-forward network and residuals.
    """

    def __init__(
        self, channels: int, num_heads: int, ffn_channels: int, dropout: float = 0.1
    ) -> None:
        super().__init__(_widths(channels, num_heads), _ffn(channels, ffn_channels, dropout))
        self.self_attn = BlockwiseAttention(channels, num_heads, dropout)
        _init_matrices(self)


class PostNormDecoderLayer(DetrTransformerDecoderLayer):
    """Self-attention, cross-attention and a feed-forward network, a LayerNorm after each.

    Source: DETR, appendix A.3. ``layer(query, key, value, query_pos, key_pos,
    key_padding_mask=...)`` takes (B, Q, C) queries and (B, N, C) keys and returns (B, Q, C).

    Args:
        channels: C.
        num_heads: Divides C.
        ffn_channels: Hidden width of the feed-forward network.
        dropout: Rate in attention, feed-forward network and residuals.
    """

    def __init__(
        self, channels: int, num_heads: int, ffn_channels: int, dropout: float = 0.1
    ) -> None:
        super().__init__(
            _widths(channels, num_heads),
            _widths(channels, num_heads),
            _ffn(channels, ffn_channels, dropout),
        )
        self.self_attn = BlockwiseAttention(channels, num_heads, dropout)
        self.cross_attn = BlockwiseAttention(channels, num_heads, dropout)
        _init_matrices(self)


@MODELS.register_module()
class PostNormDecoder(DetrTransformerDecoder):
    """Layers of :class:`PostNormDecoderLayer` and a LayerNorm on the output of each.

    ``decoder(query=, key=, value=, query_pos=, key_pos=, key_padding_mask=)`` returns
    (num_layers, B, Q, C).

    Args:
        num_layers: Number of layers.
        channels: C.
        num_heads: Divides C.
        ffn_channels: Hidden width of the feed-forward networks.
        dropout: Rate in attention, feed-forward networks and residuals.
    """

    def __init__(
        self,
        num_layers: int,
        channels: int,
        num_heads: int,
        ffn_channels: int,
        dropout: float = 0.1,
    ) -> None:
        layer = dict(
            channels=channels, num_heads=num_heads, ffn_channels=ffn_channels, dropout=dropout
        )
        super().__init__(num_layers, layer)

    def _init_layers(self) -> None:
        self.layers = ModuleList(
            PostNormDecoderLayer(**self.layer_cfg) for _ in range(self.num_layers)
        )
        self.embed_dims = self.layers[0].embed_dims
        self.post_norm = nn.LayerNorm(self.embed_dims)


def _widths(channels: int, num_heads: int) -> dict:
    """Of MMDetection's attention, which ours then replaces."""
    return dict(embed_dims=channels, num_heads=num_heads)


def _ffn(channels: int, ffn_channels: int, dropout: float) -> dict:
    return dict(embed_dims=channels, feedforward_channels=ffn_channels, num_fcs=2, ffn_drop=dropout)


def _init_matrices(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
