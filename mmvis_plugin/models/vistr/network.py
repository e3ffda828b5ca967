"""VisTR's network: from the frames of a clip to classes, boxes and masks of its queries."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.layers import MLP
from mmdet.registry import MODELS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..layers.detr_layers import PostNormDecoder, PostNormEncoderLayer
from ..layers.precision import at_least_float32
from .queries import ClipQueries


class FrameFeatures(NamedTuple):
    """What is computed of each frame by itself.

    Attributes:
        cells: (..., C, h, w) of the backbone's coarsest map, which the transformer takes.
        laterals: Three finer maps for the masks, coarsest first, each (..., C_s, h_s, w_s).
    """

    cells: Tensor
    laterals: tuple[Tensor, ...]


class ClipPredictions(NamedTuple):
    """What a decoder layer says of N instances in T frames.

    Attributes:
        logits: (B, T, N, K + 2) of absence, the K classes and no object.
        boxes: (B, T, N, 4) cx, cy, w, h in widths and heights of the frame without padding.
    """

    logits: Tensor
    boxes: Tensor


class ClipMemory(NamedTuple):
    """What masks are computed from.

    Attributes:
        queries: (B, T, N, C) of the last decoder layer.
        cells: (B, T, C, h, w) of the encoder.
        padding: (B, h, w) bool, the cells that are padding; None if none is.
        laterals: As in :class:`FrameFeatures`, each (B, T, C_s, h_s, w_s).
    """

    queries: Tensor
    cells: Tensor
    padding: Tensor | None
    laterals: tuple[Tensor, ...]


@MODELS.register_module()
class VisTRNetwork(BaseModule):
    """Backbone, transformer over all cells of all frames, and heads.

    Source: VisTR (Wang et al., CVPR 2021), Sec. 3, and its repository. Its parameters are found
    here under these names (``#`` is a number)::

        vistr.backbone.0.body                   backbone
        vistr.input_proj                        input_proj
        vistr.transformer.encoder.layers.#      encoder.#
          .self_attn, .norm1, .norm2              .self_attn.attn, .norms.0, .norms.1
          .linear1, .linear2                      .ffn.layers.0.0, .ffn.layers.1
        vistr.transformer.decoder.layers.#      decoder.layers.#
          .multihead_attn                         .cross_attn.attn
        vistr.transformer.decoder.norm          decoder.post_norm
        vistr.query_embed                       queries.vectors
        vistr.class_embed, .bbox_embed          class_head, box_head
        bbox_attention.q_linear, .k_linear      mask_head.attention.query, .key
        mask_head.adapter1 to 3                 mask_head.laterals.0 to 2
          .lay1 to 4, .gn1 to 4                   .convs.0 to 3, .norms.0 to 3
          .conv_offset, .dcn, .gn5                .last.conv_offset, .last, .last_norm
        insmask_head.#                          mask_head.out.#

    Args:
        num_classes: K.
        backbone: Config of a backbone that gives four maps.
        positional_encoding: Config of a :class:`SineClipPositions`; None for an ablation.
        num_encoder_layers: Number of :class:`PostNormEncoderLayer`.
        num_decoder_layers: Number of layers of the :class:`PostNormDecoder`.
        layers: Widths of both: ``channels``, ``num_heads``, ``ffn_channels`` and ``dropout``.
        queries: Values of :class:`ClipQueries` but for the channels.
        mask_head: Config of a :class:`VisTRMaskHead` but for ``channels``.
        in_channels: Channels of the coarsest map.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: dict,
        positional_encoding: dict | None,
        num_encoder_layers: int,
        num_decoder_layers: int,
        layers: dict,
        queries: dict,
        mask_head: dict,
        in_channels: int = 2048,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        channels = layers["channels"]
        self.num_classes = num_classes
        self.backbone = MODELS.build(backbone)
        self.input_proj = nn.Conv2d(in_channels, channels, 1)
        self.positional_encoding = positional_encoding and MODELS.build(positional_encoding)
        self.encoder = ModuleList(PostNormEncoderLayer(**layers) for _ in range(num_encoder_layers))
        self.decoder = PostNormDecoder(num_decoder_layers, **layers)
        self.queries = ClipQueries(**queries, channels=channels)
        self.class_head = nn.Linear(channels, num_classes + 2)
        self.box_head = MLP(channels, channels, 4, 3)
        self.mask_head = MODELS.build({**mask_head, "channels": channels})

    def frame_features(self, frames: Tensor) -> FrameFeatures:
        """Features of frames, each by itself.

        Args:
            frames: (N, 3, H, W) normalised.

        Returns:
            Maps of N frames.
        """
        *fine, coarse = self.backbone(frames)
        return FrameFeatures(self.input_proj(coarse), self.mask_head.project(fine[::-1]))

    def forward(
        self, features: FrameFeatures, size: tuple[int, int], sizes: Sequence[tuple[int, int]]
    ) -> tuple[list[ClipPredictions], ClipMemory]:
        """Classes and boxes of every decoder layer, and what masks are computed from.

        Args:
            features: Maps (B, T, C, h, w).
            size: Height and width of the frames in pixels.
            sizes: Those of the B clips without padding.

        Returns:
            Predictions of each decoder layer, and the memory of the last one.
        """
        batch, time, _, height, width = features.cells.shape
        padding = padded_cells(features.cells, size, sizes)
        tokens, positions, mask = self._tokens(features.cells, padding)
        for layer in self.encoder:
            tokens = layer(tokens, positions, mask)
        query_positions = self.queries(time).expand(batch, -1, -1)
        queries = self.decoder(
            query=torch.zeros_like(query_positions),
            key=tokens,
            value=tokens,
            query_pos=query_positions,
            key_pos=positions,
            key_padding_mask=mask,
        )
        predictions = [self._predict(layer.unflatten(1, (time, -1))) for layer in queries]
        cells = tokens.unflatten(1, (time, height, width)).movedim(-1, 2)
        queries = queries[-1].unflatten(1, (time, -1))
        return predictions, ClipMemory(queries, cells, padding, features.laterals)

    def _tokens(
        self, cells: Tensor, padding: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(B, T h w, C) tokens and positions, (B, T h w) padding."""
        batch, time, _, height, width = cells.shape
        shape = batch, time, height, width
        if padding is not None:
            padding = padding[:, None].expand(shape)
        positions = None
        if self.positional_encoding is not None:
            unpadded = cells.new_zeros(shape, dtype=torch.bool)
            positions = self.positional_encoding(unpadded if padding is None else padding)
            positions = positions.flatten(1, 3).to(cells.dtype)
        tokens = cells.movedim(2, -1).flatten(1, 3)
        return tokens, positions, None if padding is None else padding.flatten(1)

    def _predict(self, queries: Tensor) -> ClipPredictions:
        logits = at_least_float32(self.class_head(queries))
        return ClipPredictions(logits, at_least_float32(self.box_head(queries)).sigmoid())

    def masks(self, memory: ClipMemory, clip: int, instances: Sequence[int]) -> list[Tensor]:
        """Masks of chosen instances of a clip.

        Args:
            memory: Of :meth:`forward`.
            clip: Its index in the batch.
            instances: M of its N instances.

        Returns:
            M tensors (T, h_0, w_0) of logits, on the grid of the finest lateral map.
        """
        return self.mask_head(
            memory.queries[clip][:, instances],
            memory.cells[clip],
            None if memory.padding is None else memory.padding[clip],
            [lateral[clip] for lateral in memory.laterals],
        )


def padded_cells(
    cells: Tensor, size: tuple[int, int], sizes: Sequence[tuple[int, int]]
) -> Tensor | None:
    """Which cells are padding: those whose nearest pixel is, as in VisTR's repository.

    Args:
        cells: (B, T, C, h, w).
        size: Height and width of the frames in pixels.
        sizes: Those of the B clips without padding.

    Returns:
        (B, h, w) bool; None if no frame has padding.
    """
    if all(tuple(unpadded) == tuple(size) for unpadded in sizes):
        return None
    padding = torch.ones(len(sizes), *size, device=cells.device)
    for clip, (height, width) in zip(padding, sizes, strict=True):
        clip[:height, :width] = 0
    return F.interpolate(padding[:, None], cells.shape[-2:])[:, 0].bool()
