"""SeqFormer's mask head: convolutions that each instance query generates for the whole clip."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.layers import MLP
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.precision import at_least_float32


@MODELS.register_module()
class SeqFormerMaskHead(BaseModule):
    """Mask features of each frame, and the three 1x1 convolutions of an instance over them.

    The convolutions see the features and where each pixel lies from the centre of the instance's
    box in the frame, in pixels. The same ones serve all frames of a clip.

    Args:
        channels: Of the encoder's features and the queries.
        mid_channels: Of the mask features' last but one convolution.
        out_channels: Of the mask features.
        hidden_channels: Of the generated convolutions.
        stride: Of the finest scale and the mask features, in pixels; even. Masks have half of it.
        coordinate_unit: Pixels that are one in the coordinates. SeqFormer's 1 makes the logits of a
            mask head without pre-training so large that they hardly learn.
    """

    def __init__(
        self,
        channels: int = 256,
        mid_channels: int = 64,
        out_channels: int = 8,
        hidden_channels: int = 8,
        stride: int = 8,
        coordinate_unit: float = 1.0,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.coordinate_unit = coordinate_unit
        # Coarsest first.
        self.fuse_convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3)
        )
        self.out_convs = nn.ModuleList(
            [
                nn.Conv2d(channels, mid_channels, 3, padding=1),
                nn.Conv2d(mid_channels, out_channels, 3, padding=1),
            ]
        )
        widths = (out_channels + 2, hidden_channels, hidden_channels, 1)
        self.weight_shapes = list(zip(widths[1:], widths[:-1], strict=True))
        num_parameters = sum(rows * columns + rows for rows, columns in self.weight_shapes)
        self.controller = MLP(channels, channels, num_parameters, 3)
        for conv in (*self.fuse_convs, *self.out_convs):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)
        for layer in self.controller.layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def mask_features(self, maps: Sequence[Tensor]) -> Tensor:
        """Features that the generated convolutions run over.

        Args:
            maps: Three finest scales (B, T, C, h_s, w_s) of the encoder, finest first.

        Returns:
            (B, T, D, h, w) on the grid of the finest.
        """
        clips = maps[0].shape[:2]
        x = None
        for conv, scale in zip(self.fuse_convs, reversed(maps), strict=True):
            scale = scale.flatten(0, 1)
            if x is not None:
                scale = scale + F.interpolate(x, scale.shape[-2:], mode="nearest")
            x = conv(scale).relu()
        for conv in self.out_convs:
            x = conv(x).relu()
        return x.unflatten(0, clips)

    def forward(
        self, features: Tensor, queries: Tensor, centers: Tensor, clips: Tensor | None = None
    ) -> Tensor:
        """Masks of N instances in the T frames of their clips.

        Args:
            features: (B, T, D, h, w) of :meth:`mask_features`.
            queries: (N, C) of the instances.
            centers: (N, T, 2) x and y of their boxes' centres in pixels.
            clips: (N,) long: the clip of each instance; None where there is one clip.

        Returns:
            (N, T, 2h, 2w) logits, in at least float32.
        """
        # Coordinates of hundreds of pixels go through the convolutions: not in 16 bits.
        parameters = at_least_float32(self.controller(queries))
        with torch.autocast(features.device.type, enabled=False):
            logits = self._apply_convs(at_least_float32(features), parameters, centers, clips)
        return upsample_twice(logits)

    def _apply_convs(
        self, features: Tensor, parameters: Tensor, centers: Tensor, clips: Tensor | None
    ) -> Tensor:
        """(N, T, h, w) logits on the grid of the features."""
        height, width = features.shape[-2:]
        weights, biases = self.split_parameters(parameters)
        # The centre's part of the first convolution is the same in all pixels, the pixel's part in
        # all instances: W [center - pixel, f] + b = W [-pixel, f] + (W_xy center + b).
        pixels = pixel_centers(height, width, self.stride, features).flatten(1)
        pixels, centers = pixels / self.coordinate_unit, centers / self.coordinate_unit
        inputs = torch.cat([-pixels.expand(*features.shape[:2], -1, -1), features.flatten(3)], 2)
        inputs = inputs if clips is None else inputs[clips]  # (B or N, T, 2 + D, h w)
        shift = centers @ weights[0][..., :2].transpose(1, 2) + biases[0][:, None]
        x = weights[0][:, None] @ inputs + shift[..., None]
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            x = weight[:, None] @ x.relu() + bias[:, None, :, None]
        return x[:, :, 0].unflatten(-1, (height, width))

    def split_parameters(self, parameters: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Take generated numbers apart: the weights of all convolutions, then all biases.

        Args:
            parameters: (N, 169) with the default widths.

        Returns:
            Weights (N, out, in) and biases (N, out) of the three convolutions.
        """
        num_weights = [rows * columns for rows, columns in self.weight_shapes]
        num_biases = [rows for rows, _ in self.weight_shapes]
        pieces = parameters.split(num_weights + num_biases, dim=1)
        weights = [
            piece.unflatten(1, shape)
            for piece, shape in zip(pieces, self.weight_shapes, strict=False)
        ]
        return weights, list(pieces[len(weights) :])


def pixel_centers(height: int, width: int, stride: int, like: Tensor) -> Tensor:
    """Where the centres of the cells of a grid lie.

    Args:
        height: h, rows of cells.
        width: w, cells of a row.
        stride: Side of a cell in pixels.
        like: A tensor of the dtype and on the device of the result.

    Returns:
        (2, h, w) x and y in pixels.
    """
    x = (torch.arange(width, device=like.device, dtype=like.dtype)) * stride + stride // 2
    y = (torch.arange(height, device=like.device, dtype=like.dtype)) * stride + stride // 2
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)])


def upsample_twice(logits: Tensor) -> Tensor:
    """Aligned bilinear upsampling: cell (i, j) of the input is cell (2i + 1, 2j + 1) of the output.

    Args:
        logits: (N, T, h, w).

    Returns:
        (N, T, 2h, 2w).
    """
    height, width = logits.shape[-2:]
    if logits.numel() == 0:  # which interpolate refuses; the graph must stay whole
        return logits.repeat(1, 1, 2, 2)
    logits = F.pad(logits, (0, 1, 0, 1), mode="replicate")
    size = 2 * height + 1, 2 * width + 1
    logits = F.interpolate(logits, size, mode="bilinear", align_corners=True)
    return F.pad(logits, (1, 0, 1, 0), mode="replicate")[..., : 2 * height, : 2 * width]
