"""Where a token lies in its clip: frame, row and column."""

import math

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class SineClipPositions(nn.Module):
    """Sines and cosines of frame, row and column, a third of the channels each, in this order.

    A coordinate counts the cells along its axis that are not padding, from 1, divided by the last
    count, so that 2 pi is the last cell. In its third of D channels, channel i is the sine, or for
    an odd i the cosine, of that angle divided by 10000^(2 floor(i / 2) / D).

    Source: VisTR (Wang et al., CVPR 2021), Sec. 3.2, and its repository. Row and column are those
    of MMDetection's ``SinePositionalEncoding(normalize=True)``; its ``SinePositionalEncoding3D`` is
    another encoding.

    Args:
        channels (int): A multiple of 6.
        temperature (int): Base of the wavelengths.

    Raises:
        ValueError: If the channels cannot be split.
    """

    def __init__(self, channels: int, temperature: int = 10000) -> None:
        super().__init__()
        if channels % 6:
            raise ValueError(f"channels must be a multiple of 6, got {channels}")
        self.channels = channels
        self.temperature = temperature

    def forward(self, padding: Tensor) -> Tensor:
        """Encode the cells of clips.

        Args:
            padding: (B, T, h, w) bool, true in cells that are padding.

        Returns:
            (B, T, h, w, C) float32.
        """
        depth = self.channels // 3
        exponents = torch.arange(depth, device=padding.device) // 2 * 2 / depth
        wavelengths = self.temperature**exponents
        axes = [_angles(~padding, axis)[..., None] / wavelengths for axis in (1, 2, 3)]
        angles = torch.stack(axes, dim=4)
        waves = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1)
        return waves.flatten(4)


def _angles(real: Tensor, axis: int) -> Tensor:
    """Coordinates along an axis of (B, T, h, w) bool, in (0, 2 pi]; 0 before the first cell."""
    counts = real.cumsum(axis, dtype=torch.float32)
    last = counts.narrow(axis, counts.shape[axis] - 1, 1)
    return counts / (last + 1e-6) * (2 * math.pi)
