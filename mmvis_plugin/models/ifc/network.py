"""IFC's network: from the frames of a clip to the class logits and masks of its queries."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from mmdet.models.layers import MLP
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.precision import at_least_float32


class FrameFeatures(NamedTuple):
    """What is computed of each frame by itself; all (..., C, h, w).

    Attributes:
        cells: Of the coarsest scale, which the encoder takes.
        middle: Of the next finer scale, for the masks.
        fine: Of the finest scale, likewise.
    """

    cells: Tensor
    middle: Tensor
    fine: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "FrameFeatures":
        """The same of all three scales."""
        return FrameFeatures(*map(function, self))


@MODELS.register_module()
class IFCNetwork(BaseModule):
    """Backbone, encoder, decoder and heads.

    The queries stand for objects of the whole clip. A query's mask in a frame is the dot product of
    one vector, the same in all frames, with the mask features of each cell.

    Source: IFC (Hwang et al., NeurIPS 2021), Sec. 3.1 and 3.2, and its repository. Its parameters
    are found here under these names (``#`` is a number)::

        detr.backbone.0.backbone                    backbone
        detr.input_proj                             input_proj
        detr.transformer.memory_bus, .memory_pos    encoder.memory, .memory_position
        detr.transformer.encoder.enc_layers.#       encoder.frame_layers.#
          .bus_layers.#                               .time_layers.#
        detr.transformer.clip_decoder.layers.#      decoder.layers.#
          .norm                                       .post_norm
        detr.query_embed                            query_embed
        detr.class_embed                            class_head
        detr.mask_head.convert_to_weight            mask_embed
        detr.mask_head.adapter1, .adapter2          mask_head.laterals.0, .1
          .lay1 to .lay3, .gn1 to .gn3                .convs.0 to .2, .norms.0 to .2
          .out_lay.depthwise, .pointwise              .depthwise, .pointwise

    Args:
        num_classes: K.
        backbone: Config of a backbone; its last three maps are used.
        in_channels: Channels of its coarsest map.
        positional_encoding: Config of the encoding of positions in a frame.
        encoder: Config of an :class:`IFCEncoder`.
        decoder: Config of a :class:`PostNormDecoder`.
        mask_head: Config of an :class:`IFCMaskHead`.
        num_queries: Q.
        channels: C.
        stride: Of the coarsest map in pixels.
        init_cfg: Initialisation config.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: dict,
        positional_encoding: dict,
        encoder: dict,
        decoder: dict,
        mask_head: dict,
        in_channels: int = 2048,
        num_queries: int = 100,
        channels: int = 256,
        stride: int = 32,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.stride = stride
        self.backbone = MODELS.build(backbone)
        self.input_proj = nn.Conv2d(in_channels, channels, 1)
        self.positional_encoding = MODELS.build(positional_encoding)
        self.encoder = MODELS.build(encoder)
        self.decoder = MODELS.build(decoder)
        self.query_embed = nn.Embedding(num_queries, channels)
        self.class_head = MLP(channels, channels, num_classes + 1, 2)
        self.mask_embed = MLP(channels, channels, channels, 3)
        self.mask_head = MODELS.build(mask_head)

    def frame_features(self, frames: Tensor) -> FrameFeatures:
        """Features of frames, each by itself.

        Args:
            frames: (N, 3, H, W) normalised.

        Returns:
            Maps of N frames.
        """
        fine, middle, coarse = self.backbone(frames)[-3:]
        return FrameFeatures(self.input_proj(coarse), *self.mask_head.project([middle, fine]))

    def forward(
        self, features: FrameFeatures, sizes: Sequence[tuple[int, int]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Queries and mask features of clips.

        Args:
            features: Maps (B, T, C, h, w).
            sizes: Height and width of the B clips in pixels without padding; None if there is
                none.

        Returns:
            (L, B, Q, C) queries after each of L decoder layers, normalised, and (B, T, C, h, w)
            mask features on the finest grid.
        """
        batch, time, _, height, width = features.cells.shape
        cells = features.cells.flatten(3).mT
        padding = padded_cells(features.cells, sizes, self.stride)
        unpadded = cells.new_zeros(batch, height, width, dtype=torch.bool)
        position = self.positional_encoding(unpadded if padding is None else padding)
        x, position, padding = self.encoder(
            cells,
            position.flatten(2).mT[:, None].expand(-1, time, -1, -1),
            None if padding is None else padding.flatten(1)[:, None].expand(-1, time, -1),
        )
        keys, cells = clip_tokens(x, height * width), x[:, :, : height * width]
        query_position = self.query_embed.weight.expand(batch, -1, -1)
        queries = self.decoder(
            query=torch.zeros_like(query_position),
            key=keys,
            value=keys,
            query_pos=query_position,
            key_pos=clip_tokens(position, height * width),
            key_padding_mask=None if padding is None else clip_tokens(padding, height * width),
        )
        cells = cells.mT.unflatten(3, (height, width)).flatten(0, 1)
        finer = [features.middle.flatten(0, 1), features.fine.flatten(0, 1)]
        return queries, self.mask_head(cells, finer).unflatten(0, (batch, time))

    def class_logits(self, queries: Tensor) -> Tensor:
        """(..., K + 1) class logits of queries (..., C), the last column for no object."""
        return at_least_float32(self.class_head(queries))

    def mask_logits(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        """Masks of queries.

        Args:
            queries: (B, Q, C).
            mask_features: (B, T, C, h, w).

        Returns:
            (B, T, Q, h, w) logits.
        """
        vectors = self.mask_embed(queries)[:, None]
        masks = vectors @ mask_features.flatten(3)
        return at_least_float32(masks).unflatten(3, mask_features.shape[3:])


def padded_cells(
    cells: Tensor, sizes: Sequence[tuple[int, int]] | None, stride: int
) -> Tensor | None:
    """Which cells only pad their frame.

    A cell that holds a pixel of the frame is none of them: the frame reaches over ``ceil(height /
    stride)`` rows of cells, as in the authors' repository.

    Args:
        cells: (B, T, C, h, w).
        sizes: Height and width of the B clips in pixels without padding; None if there is none.
        stride: Of a cell in pixels.

    Returns:
        (B, h, w) bool; None if no cell does.
    """
    batch, _, _, rows, columns = cells.shape
    filled = [(-(-height // stride), -(-width // stride)) for height, width in sizes or ()]
    if all(size == (rows, columns) for size in filled):
        return None
    padding = cells.new_zeros(batch, rows, columns, dtype=torch.bool)
    for clip, (height, width) in zip(padding, filled, strict=True):
        clip[height:] = True
        clip[:, width:] = True
    return padding


def clip_tokens(x: Tensor, num_cells: int) -> Tensor:
    """(B, T, N + M, ...) of each frame as (B, T N + T M, ...): first all cells, then all tokens."""
    return torch.cat([x[:, :, :num_cells].flatten(1, 2), x[:, :, num_cells:].flatten(1, 2)], dim=1)
