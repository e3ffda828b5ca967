"""VisTR's mask head: attention maps, refined in each frame and then over the whole clip."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..layers.deform_conv import Float32DeformConv2dPack
from ..layers.precision import at_least_float32

# Frames that go through the deformable convolution together. mmcv takes at most 32 or a multiple of
# them, and makes a copy of the inputs of all taps.
DEFORM_BATCH = 12


@MODELS.register_module()
class VisTRMaskHead(BaseModule):
    """Masks of instances in all frames of a clip.

    In each frame, the query of an instance attends to the encoder's cells. The attention maps of
    all heads go through convolutions together with the cells, and are enlarged step by step with
    three finer maps of the backbone. The results of all frames of an instance are then one volume,
    over which 3-D convolutions run.

    Source: VisTR (Wang et al., CVPR 2021), Sec. 3.3, and its repository.

    Args:
        channels: C of queries and cells.
        num_heads: Attention maps of an instance; divides C.
        in_channels: Channels of the three finer maps, coarsest first.
        mid_channels: Widths after each of three convolutions, to which the finer maps are added.
        out_channels: Width of the last convolution in a frame.
        num_groups: Of the group normalisations in a frame.
        deformable: Whether that last convolution is deformable, as in VisTR; DETR's is not.
        clip_channels: Width of the 3-D convolutions; None for DETR's 3 x 3 convolution in each
            frame in their place.
        clip_groups: Of the group normalisations over the clip.
    """

    def __init__(
        self,
        channels: int = 384,
        num_heads: int = 8,
        in_channels: Sequence[int] = (1024, 512, 256),
        mid_channels: Sequence[int] = (192, 96, 48),
        out_channels: int = 24,
        num_groups: int = 8,
        deformable: bool = True,
        clip_channels: int | None = 12,
        clip_groups: int = 4,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.attention = AttentionMaps(channels, num_heads)
        widths = [channels + num_heads, channels + num_heads, *mid_channels]
        self.convs = ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1)
            for inputs, outputs in zip(widths, widths[1:], strict=False)
        )
        self.norms = ModuleList(nn.GroupNorm(num_groups, outputs) for outputs in widths[1:])
        self.laterals = ModuleList(
            nn.Conv2d(inputs, outputs, 1)
            for inputs, outputs in zip(in_channels, mid_channels, strict=True)
        )
        self.last = _last_conv(mid_channels[-1], out_channels, deformable)
        self.last_norm = nn.GroupNorm(num_groups, out_channels)
        self.over_clip = clip_channels is not None
        if self.over_clip:
            self.out = _clip_convs(out_channels, clip_channels, clip_groups)
        else:
            self.out = nn.Conv2d(out_channels, 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)
        if deformable:
            self.last.init_offset()

    def project(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The part that needs no transformer.

        Args:
            maps: Three finer maps (N, C_s, h_s, w_s) of the backbone, coarsest first.

        Returns:
            As many, each with as many channels as it is added to.
        """
        return tuple(conv(fine) for conv, fine in zip(self.laterals, maps, strict=True))

    def forward(
        self, queries: Tensor, cells: Tensor, padding: Tensor | None, laterals: Sequence[Tensor]
    ) -> list[Tensor]:
        """Masks of M instances of one clip.

        One instance after another: what is computed of all of them together would not fit into
        the memory of a GPU.

        Args:
            queries: (T, M, C).
            cells: (T, C, h, w) of the encoder.
            padding: (h, w) bool; None if no cell is padding.
            laterals: Of :meth:`project`, each (T, C_s, h_s, w_s).

        Returns:
            M tensors (T, h_0, w_0) of logits on the grid of the finest map, in at least float32.
        """
        maps = self.attention(queries, cells, padding)
        # The part of the first convolution that all instances share.
        weight, bias = self.convs[0].weight, self.convs[0].bias
        shared = F.conv2d(cells, weight[:, : self.channels], bias, padding=1)
        weight = weight[:, self.channels :]
        return [
            self._mask(shared + F.conv2d(instance, weight, padding=1), laterals)
            for instance in maps.unbind(1)
        ]

    def _mask(self, x: Tensor, laterals: Sequence[Tensor]) -> Tensor:
        """(T, h_0, w_0) logits of an instance from its first convolution (T, C + heads, h, w)."""
        x = self.norms[0](x).relu_()
        for conv, norm, lateral in zip(self.convs[1:], self.norms[1:], laterals, strict=True):
            x = norm(conv(x)).relu_()
            x = lateral + F.interpolate(x, lateral.shape[-2:], mode="nearest")
        x = torch.cat([self.last(frames) for frames in x.split(DEFORM_BATCH)])
        x = self.last_norm(x).relu_()
        x = self.out(x.transpose(0, 1)[None])[0, 0] if self.over_clip else self.out(x)[:, 0]
        return at_least_float32(x)


class AttentionMaps(nn.Module):
    """Where queries attend to: softmax over all cells of all heads together, no values.

    Source: the repository of VisTR, as in DETR.

    Args:
        channels: C.
        num_heads: Divides C.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        for layer in (self.query, self.key):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, cells: Tensor, padding: Tensor | None) -> Tensor:
        """Attend in each frame by itself.

        Args:
            queries: (T, M, C).
            cells: (T, C, h, w).
            padding: (h, w) bool; None if no cell is padding.

        Returns:
            (T, M, heads, h, w); they sum up to 1 over the last three, and are 0 in padding.
        """
        height, width = cells.shape[-2:]
        queries = self.query(queries).unflatten(2, (self.num_heads, -1))
        keys = self.key(cells.flatten(2).mT).unflatten(2, (self.num_heads, -1))
        with torch.autocast(cells.device.type, enabled=False):
            queries = at_least_float32(queries) * queries.shape[-1] ** -0.5
            logits = torch.einsum("tmnc,tpnc->tmnp", queries, at_least_float32(keys))
            if padding is not None:
                logits = logits.masked_fill(padding.flatten(), float("-inf"))
            maps = logits.flatten(2).softmax(2)
        return maps.unflatten(2, (self.num_heads, height, width))


def _last_conv(inputs: int, outputs: int, deformable: bool) -> nn.Module:
    """The last convolution in a frame."""
    if not deformable:
        return nn.Conv2d(inputs, outputs, 3, padding=1)
    conv = Float32DeformConv2dPack(inputs, outputs, 3, padding=1)
    # The offsets come from a cell alone, mmcv's from the cells around it as well.
    conv.conv_offset = nn.Conv2d(inputs, 2 * 3 * 3, 1)
    return conv


def _clip_convs(inputs: int, channels: int, groups: int) -> nn.Sequential:
    """3-D convolutions over the frames of an instance; statistics are those of the whole clip."""
    layers = []
    for width in (inputs, channels, channels):
        layers += [
            nn.Conv3d(width, channels, 3, padding=2, dilation=2),
            nn.GroupNorm(groups, channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv3d(channels, 1, 1))
