"""SeqFormer's encoder: deformable attention within each frame, and MS-STS attention over time."""

from typing import NamedTuple

import torch
from mmcv.cnn.bricks.transformer import FFN
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .deformable import FeatureLevels, FrameDeformableAttention


class ClipFeatures(NamedTuple):
    """Multi-scale features of B clips of T frames.

    Attributes:
        tokens: (B, T, P, C), the L scales one after another.
        levels: The scales.
        valid_ratios: (B, L, 2) valid part of the width and of the height of each padded scale.
        padding: (B, P) bool, true for tokens of padding; None where nothing is padded.
    """

    tokens: Tensor
    levels: FeatureLevels
    valid_ratios: Tensor
    padding: Tensor | None

    def maps(self, num_levels: int) -> list[Tensor]:
        """The finest scales as (B, T, C, h, w) maps, finest first."""
        scales = self.levels.split(self.tokens)[:num_levels]
        return [
            scale.transpose(2, 3).unflatten(3, shape)
            for scale, shape in zip(scales, self.levels.shapes, strict=False)
        ]


def xavier_init(module: nn.Module) -> None:
    """Uniform Xavier initialisation of all matrices, as in Deformable DETR."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for child in module.modules():
        if isinstance(child, FrameDeformableAttention):
            child.init_weights()


class SeqFormerEncoderLayer(BaseModule):
    """Attention within each frame, over time, and a feed-forward network.

    Args:
        channels: C.
        num_heads: Of all attention.
        num_levels: L.
        num_points: Points sampled for each head and scale.
        ffn_channels: Hidden width of the feed-forward network.
        dropout: Its rate.
        ms_sts: Config of a :class:`MSSTSAttention` without widths; None for SeqFormer.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        ffn_channels: int,
        dropout: float,
        ms_sts: dict | None = None,
    ) -> None:
        super().__init__()
        self.attention = FrameDeformableAttention(channels, num_heads, num_levels, num_points)
        self.dropout = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(channels)
        self.ffn = FFN(channels, ffn_channels, ffn_drop=dropout)
        self.norm2 = nn.LayerNorm(channels)
        xavier_init(self)
        self.ms_sts = None
        if ms_sts is not None:
            self.ms_sts = MODELS.build(dict(channels=channels, num_heads=num_heads, **ms_sts))

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        references: Tensor,
        levels: FeatureLevels,
        padding: Tensor | None,
    ) -> Tensor:
        """One layer.

        Args:
            x: (B, T, P, C).
            position: (B, P, C).
            references: (B, P, L, 2) of :func:`token_centers`.
            levels: The scales.
            padding: (B, P) bool or None.

        Returns:
            (B, T, P, C).
        """
        references = references[:, None].expand(-1, x.shape[1], -1, -1, -1)
        sampled = self.attention(x + position[:, None], references, x, levels, padding)
        x = x + self.dropout(self.attention.output_proj(sampled))
        if self.ms_sts is not None:
            x = x + self.dropout(self.ms_sts(x, position, levels, padding))
        return self.norm2(self.ffn(self.norm1(x)))


@MODELS.register_module()
class SeqFormerEncoder(BaseModule):
    """Encoder of SeqFormer, that of Deformable DETR on each frame, or of MS-STS VIS.

    Args:
        num_layers: Layers.
        channels: C.
        num_heads: Of all attention.
        num_levels: L.
        num_points: Points sampled for each head and scale.
        ffn_channels: Hidden width of the feed-forward networks.
        dropout: Its rate.
        ms_sts: Config of a :class:`MSSTSAttention` without widths, in every layer; None for
            SeqFormer.
        with_cp: Compute activations twice instead of keeping them.
    """

    def __init__(
        self,
        num_layers: int = 6,
        channels: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        ffn_channels: int = 1024,
        dropout: float = 0.1,
        ms_sts: dict | None = None,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.with_cp = with_cp
        self.level_embed = nn.Parameter(torch.randn(num_levels, channels))
        self.layers = nn.ModuleList(
            SeqFormerEncoderLayer(
                channels, num_heads, num_levels, num_points, ffn_channels, dropout, ms_sts
            )
            for _ in range(num_layers)
        )

    def forward(self, features: ClipFeatures, position: Tensor) -> ClipFeatures:
        """Encode features.

        Args:
            features: Of backbone and neck.
            position: (B, P, C) sine encoding, without level embedding.

        Returns:
            The encoder's features.
        """
        counts = torch.tensor(features.levels.counts(), device=position.device)
        level_of_token = torch.repeat_interleave(counts, output_size=position.shape[1])
        x, levels, padding = features.tokens, features.levels, features.padding
        position = position + self.level_embed[level_of_token]
        references = token_centers(levels, features.valid_ratios)
        for layer in self.layers:
            if self.with_cp and self.training:
                x = checkpoint(layer, x, position, references, levels, padding, use_reentrant=False)
            else:
                x = layer(x, position, references, levels, padding)
        return features._replace(tokens=x)


def token_centers(levels: FeatureLevels, valid_ratios: Tensor) -> Tensor:
    """The centre of every token, in every scale.

    Args:
        levels: L scales of P tokens.
        valid_ratios: (B, L, 2).

    Returns:
        (B, P, L, 2) x and y in widths and heights of the padded scale.
    """
    centers = []
    for level, (height, width) in enumerate(levels.shapes):
        y = torch.arange(height, device=valid_ratios.device) + 0.5
        x = torch.arange(width, device=valid_ratios.device) + 0.5
        grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1)
        size = valid_ratios[:, level] * valid_ratios.new_tensor([width, height])
        centers.append(grid.flatten(0, 1) / size[:, None])
    return torch.cat(centers, dim=1)[:, :, None] * valid_ratios[:, None]
