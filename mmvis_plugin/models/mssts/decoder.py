"""SeqFormer's decoder: instance queries of a clip, and their box queries in every frame."""

import math
from typing import NamedTuple

import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from mmdet.models.layers import MLP, inverse_sigmoid
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers.precision import at_least_float32
from .deformable import FeatureLevels, FrameDeformableAttention
from .encoder import ClipFeatures, xavier_init
from .ms_sts_attention import TemporalAttention


class InstancePredictions(NamedTuple):
    """What one decoder layer says of Q instances in B clips of T frames.

    Attributes:
        queries: (B, Q, C) instance queries, from which masks are generated.
        logits: (B, Q, K) class logits.
        boxes: (B, T, Q, 4) cx, cy, w, h in widths and heights of the unpadded frame.
        centers: (B, T, Q, 2) x and y that the layer starts from, in the same units.
    """

    queries: Tensor
    logits: Tensor
    boxes: Tensor
    centers: Tensor


class SeqFormerDecoderLayer(BaseModule):
    """Attention among queries, of box queries to their frame, and of instances over their boxes.

    Args:
        channels: C.
        num_heads: Of all attention.
        num_levels: L.
        num_points: Points sampled for each head and scale.
        ffn_channels: Hidden width of the feed-forward networks.
        dropout: Rate in attention, feed-forward networks and residuals.
        temporal_attention: Whether each box query attends over its frames (MS-STS VIS).
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        ffn_channels: int,
        dropout: float,
        temporal_attention: bool = False,
    ) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.norm_self = nn.LayerNorm(channels)
        self.box_self_attention = nn.MultiheadAttention(
            channels, num_heads, dropout, batch_first=True
        )
        self.box_norm_self = nn.LayerNorm(channels)
        self.cross_attention = FrameDeformableAttention(channels, num_heads, num_levels, num_points)
        self.box_output_proj = nn.Linear(channels, channels)
        self.box_norm_cross = nn.LayerNorm(channels)
        self.box_ffn = FFN(channels, ffn_channels, ffn_drop=dropout)
        self.box_norm_ffn = nn.LayerNorm(channels)
        self.frame_weight = nn.Linear(channels, 1)
        self.norm_cross = nn.LayerNorm(channels)
        self.ffn = FFN(channels, ffn_channels, ffn_drop=dropout)
        self.norm_ffn = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        xavier_init(self)
        self.temporal = TemporalAttention(channels, num_heads) if temporal_attention else None

    def forward(
        self,
        queries: Tensor,
        box_queries: Tensor,
        position: Tensor,
        references: Tensor,
        memory: Tensor,
        levels: FeatureLevels,
        padding: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """One layer.

        Args:
            queries: (B, Q, C) of instances.
            box_queries: (B, T, Q, C), or (B, 1, Q, C) before the first layer, whose attention over
                time has that one token: frames tell each other something from the second layer on.
            position: (B, Q, C) added to both.
            references: (B, T, Q, L, 2 or 4), see :class:`FrameDeformableAttention`.
            memory: (B, T, P, C).
            levels: The scales.
            padding: (B, P) bool or None.

        Returns:
            (B, Q, C) and (B, T, Q, C).
        """
        drop = self.dropout
        placed = queries + position
        attended = self.self_attention(placed, placed, queries, need_weights=False)[0]
        queries = self.norm_self(queries + drop(attended))

        box_queries = self._attend_within_frames(box_queries, position)
        if self.temporal is not None:
            box_queries = box_queries + drop(self.temporal(box_queries))
        sampled = self.cross_attention(
            box_queries + position[:, None], references, memory, levels, padding
        )
        box_queries = self.box_norm_cross(box_queries + drop(self.box_output_proj(sampled)))
        box_queries = self.box_norm_ffn(self.box_ffn(box_queries))

        weights = self.frame_weight(box_queries).softmax(dim=1)
        of_clip = (weights * self.cross_attention.output_proj(sampled)).sum(1)
        queries = self.norm_cross(queries + drop(of_clip))
        return self.norm_ffn(self.ffn(queries)), box_queries

    def _attend_within_frames(self, box_queries: Tensor, position: Tensor) -> Tensor:
        """Self-attention of the box queries of each frame."""
        placed = (box_queries + position[:, None]).flatten(0, 1)
        values = box_queries.flatten(0, 1)
        attended = self.box_self_attention(placed, placed, values, need_weights=False)[0]
        return self.box_norm_self(box_queries + self.dropout(attended.view_as(box_queries)))


@MODELS.register_module()
class SeqFormerDecoder(BaseModule):
    """Decoder of SeqFormer, or of MS-STS VIS.

    Args:
        num_classes: Classes of the dataset.
        num_layers: Layers, each with its own class and box branch.
        num_queries: Q.
        channels: C.
        num_heads: Of all attention.
        num_levels: L.
        num_points: Points sampled for each head and scale.
        ffn_channels: Hidden width of the feed-forward networks.
        dropout: Its rate.
        unused_logits: Class logits before and behind those of the classes. SeqFormer indexes them
            by the category ids 1 to 40 and has 42: (1, 1). They are trained to be low and take
            part in the choice of the best pairs of query and class.
        temporal_attention: Whether box queries attend over their frames (MS-STS VIS). In the first
            layer they are equal in all frames, so that it cannot exchange anything there.
        with_cp: Compute activations twice instead of keeping them.
    """

    def __init__(
        self,
        num_classes: int,
        num_layers: int = 6,
        num_queries: int = 300,
        channels: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        ffn_channels: int = 1024,
        dropout: float = 0.1,
        unused_logits: tuple[int, int] = (0, 0),
        temporal_attention: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.first_class = unused_logits[0]
        self.num_levels = num_levels
        self.with_cp = with_cp
        self.query_embedding = nn.Embedding(num_queries, 2 * channels)
        self.reference_points = nn.Linear(channels, 2)
        self.layers = nn.ModuleList(
            SeqFormerDecoderLayer(
                channels,
                num_heads,
                num_levels,
                num_points,
                ffn_channels,
                dropout,
                temporal_attention,
            )
            for _ in range(num_layers)
        )
        self.class_branches = nn.ModuleList(
            nn.Linear(channels, num_classes + sum(unused_logits)) for _ in range(num_layers)
        )
        self.box_branches = nn.ModuleList(MLP(channels, channels, 4, 3) for _ in range(num_layers))
        self._init_branches()

    def _init_branches(self) -> None:
        """Classes start at a probability of 0.01, boxes at their references, 12 % in size."""
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        for branch in self.class_branches:
            nn.init.constant_(branch.bias, -math.log(99))
        for branch in self.box_branches:
            nn.init.zeros_(branch.layers[-1].weight)
            nn.init.zeros_(branch.layers[-1].bias)
        nn.init.constant_(self.box_branches[0].layers[-1].bias[2:], -2.0)

    def forward(self, features: ClipFeatures) -> list[InstancePredictions]:
        """Decode clips.

        Args:
            features: Of the encoder.

        Returns:
            Predictions of every layer.
        """
        memory, levels, valid_ratios, padding = features
        position, content = self.query_embedding.weight.expand(len(memory), -1, -1).chunk(2, dim=2)
        queries, box_queries = content, content[:, None]
        references = at_least_float32(self.reference_points(position)).sigmoid()
        references = references[:, None].expand(-1, memory.shape[1], -1, -1)
        predictions = []
        for number, layer in enumerate(self.layers):
            scale = valid_ratios.repeat(1, 1, references.shape[-1] // 2)[:, None, None]
            arguments = (
                queries,
                box_queries,
                position,
                references[:, :, :, None] * scale,
                memory,
                levels,
                padding,
            )
            if self.with_cp and self.training:
                queries, box_queries = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                queries, box_queries = layer(*arguments)
            start = inverse_sigmoid(references)
            boxes = at_least_float32(self.box_branches[number](box_queries))
            # The first layer starts from points, the others from boxes.
            boxes = (boxes + F.pad(start, (0, 4 - start.shape[-1]))).sigmoid()
            predictions.append(
                InstancePredictions(
                    queries,
                    at_least_float32(self.class_branches[number](queries)),
                    boxes,
                    start[..., :2].sigmoid(),
                )
            )
            references = boxes.detach()
        return predictions
