"""Deformable convolution through ``grid_sample``: where the taps of the kernel sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def tap_positions(kernel_size: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """y and x of the taps from the middle of the kernel, row by row, each (kh * kw, 1, 1)."""
    height, width = kernel_size
    y = torch.arange(height, device=device) - height // 2
    x = torch.arange(width, device=device) - width // 2
    return y.repeat_interleave(width)[:, None, None], x.repeat(height)[:, None, None]


def tap_grid(offsets: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Where each tap samples, in the coordinates of ``grid_sample`` (``align_corners=False``).

    Args:
        offsets: (..., kh * kw, 2, H, W) y and x displacement of each tap, in cells.
        kernel_size: kh and kw.

    Returns:
        (..., kh * kw, H, W, 2) x and y; -1 and 1 are the outer edges of the border cells.
    """
    height, width = offsets.shape[-2:]
    tap_y, tap_x = tap_positions(kernel_size, offsets.device)
    offset_y, offset_x = offsets.unbind(-3)
    y = torch.arange(height, device=offsets.device)[:, None] + tap_y + offset_y
    x = torch.arange(width, device=offsets.device) + tap_x + offset_x
    return torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
