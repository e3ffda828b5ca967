"""Feature calibration for bounding boxes (FCB): features read from where the box was regressed to.

Source: STMask (Li et al., CVPR 2021), Section 3.1.2.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.precision import at_least_float32
from ..layers.tap_grid import tap_grid, tap_positions


class OffsetConv2d(nn.Conv2d):
    """A convolution whose taps are displaced: mmcv's ``DeformConv2d``, sampled by PyTorch.

    The result is that of mmcv's operator, to whose weights this one's are equal. On a CPU its
    gradient takes a tenth of the time and the result itself half; there is one path for all
    devices and any batch size. Computed in float32 (float64 if given) also under autocast. Training
    keeps the samples, of kh * kw times the size of the input, which mmcv's operator computes twice
    instead.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel, odd. Stride is 1, the output as large as the
            input, and there is no bias.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sequence[int]) -> None:
        super().__init__(in_channels, out_channels, tuple(kernel_size), bias=False)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: (B, C_in, H, W).
            offset: (B, 2 * kh * kw, H, W) displacement of each tap in cells, y before x, taps row
                by row.

        Returns:
            (B, C_out, H, W), float32 or, if given so, float64.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_float32(x)
            offsets = at_least_float32(offset).unflatten(1, (-1, 2))
            grid = tap_grid(offsets, self.kernel_size).flatten(1, 2)  # beyond the border are zeros
            taps = F.grid_sample(x, grid, align_corners=False)  # (B, C_in, kh * kw * H, W)
            taps = taps.reshape(len(x), -1, x.shape[2] * x.shape[3])
            return (self.weight.flatten(1) @ taps).unflatten(2, x.shape[2:])


def aligned_offsets(
    deltas: Tensor,
    kernel_size: Sequence[int],
    anchor_size: Sequence[float],
    stds: Sequence[float],
) -> Tensor:
    """FCB(ali): offsets that spread the taps of a kernel evenly over the regressed box.

    Source: Equations 6 to 8, in closed form: all taps move with the centre of the box, by its
    regression times the anchor's extent; and tap ``i`` of a kernel of extent ``k`` moves from
    ``i`` to ``i * s * a / k``, ``a`` being the anchor's extent and ``s`` the regressed scale. With
    feature calibration for anchors ``a = k``.

    Args:
        deltas: (B, 4, H, W) box regression (x, y, w, h) relative to the anchor, as predicted.
        kernel_size: Height and width of the kernel, odd.
        anchor_size: Height and width of the anchor in cells.
        stds: The four factors (variances) of the box coder.

    Returns:
        (B, 2 * kh * kw, H, W) in cells, y before x for each tap, taps row by row.
    """
    (kernel_h, kernel_w), (anchor_h, anchor_w) = kernel_size, anchor_size
    dx, dy, dw, dh = (deltas * deltas.new_tensor(stds)[:, None, None])[:, :, None].unbind(1)
    tap_y, tap_x = tap_positions(kernel_size, deltas.device)
    offset_y = dy * anchor_h + (dh.exp() * anchor_h / kernel_h - 1) * tap_y
    offset_x = dx * anchor_w + (dw.exp() * anchor_w / kernel_w - 1) * tap_x
    return torch.stack([offset_y, offset_x], dim=2).flatten(1, 2)


class CalibratedPrediction(BaseModule):
    """A prediction layer that reads its features from the regressed box of its anchor.

    A deformable convolution, ReLU, and a convolution with the same kernel. No gradient flows into
    the box regression.

    Args:
        in_channels: Channels of the features.
        out_channels: Predicted values.
        kernel_size: Height and width of the kernels, odd.
        anchor_size: Height and width of the anchor in cells.
        mode: ``'ada'``: a convolution without bias turns the regression into offsets (Equation 5);
            ``'ali'``: :func:`aligned_offsets`.
        stds: The four factors (variances) of the box coder.

    Raises:
        ValueError: If the mode is unknown or the kernel has an even side, about which taps cannot
            be centred.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        anchor_size: Sequence[float],
        mode: str,
        stds: Sequence[float],
    ) -> None:
        super().__init__()
        if mode not in ("ada", "ali"):
            raise ValueError(f"calibration for boxes is 'ada' or 'ali', got {mode!r}")
        if any(side % 2 == 0 for side in kernel_size):
            raise ValueError(f"calibration for boxes wants odd kernels, got {tuple(kernel_size)}")
        self.kernel_size = tuple(kernel_size)
        self.anchor_size = tuple(anchor_size)
        self.stds = tuple(stds)
        padding = tuple(side // 2 for side in kernel_size)
        if mode == "ada":
            num_offsets = 2 * kernel_size[0] * kernel_size[1]
            self.conv_offset = nn.Conv2d(4, num_offsets, 1, bias=False)
        else:
            self.conv_offset = None
        self.conv_adapt = OffsetConv2d(in_channels, in_channels, self.kernel_size)
        self.conv_pred = nn.Conv2d(in_channels, out_channels, self.kernel_size, padding=padding)

    def offsets(self, deltas: Tensor) -> Tensor:
        """Offsets of the taps from (B, 4, H, W) box regression; see :func:`aligned_offsets`."""
        deltas = at_least_float32(deltas.detach())
        if self.conv_offset is None:
            return aligned_offsets(deltas, self.kernel_size, self.anchor_size, self.stds)
        with torch.autocast(deltas.device.type, enabled=False):
            return self.conv_offset(deltas)

    def forward(self, x: Tensor, deltas: Tensor) -> Tensor:
        """Predict.

        Args:
            x: (B, C, H, W) features.
            deltas: (B, 4, H, W) regression of this layer's anchor, as predicted.

        Returns:
            (B, out_channels, H, W).
        """
        return self.conv_pred(self.conv_adapt(x, self.offsets(deltas)).relu())
