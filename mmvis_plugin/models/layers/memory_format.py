"""mmcv's operators beside tensors that do not lie in memory in the order of their axes.

Several of them (RoIAlign and the modulated deformable convolution on the CPU among them) read any
tensor as if it were contiguous, and silently return something else for a slice or for channels
that are innermost; others refuse such a tensor.
"""

import torch
from mmcv.ops import roi_align
from torch import Tensor, nn

from .precision import at_least_float32


def crop_rois(
    features: Tensor,
    rois: Tensor,
    size: int | tuple[int, int],
    scale: float = 1.0,
    sampling_ratio: int = 0,
) -> Tensor:
    """RoIAlign (average, aligned) of features in any memory format, also under autocast.

    Args:
        features: (B, C, H, W).
        rois: (N, 5) index in the batch, and xyxy.
        size: Height and width of the result.
        scale: Cells per unit of the boxes.
        sampling_ratio: Samples per cell and side; 0 for as many as the box is large.

    Returns:
        (N, C, h, w), float32 for 16-bit features.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = at_least_float32(features).contiguous()
        rois = rois.to(features.dtype)
        return roi_align(features, rois, size, scale, sampling_ratio, "avg", True)


def to_channels_last(model: nn.Module) -> None:
    """Store the weights of 2-D convolutions with channels innermost, but for mmcv's operators.

    Those get contiguous inputs from then on, in whichever format the layers before them work.
    """
    operators = [module for module in model.modules() if _is_mmcv_operator(module)]
    left = {id(parameter) for module in operators for parameter in module.parameters()}
    for parameter in model.parameters():
        if parameter.dim() == 4 and id(parameter) not in left:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    for module in operators:
        module.register_forward_pre_hook(_contiguous)


def _is_mmcv_operator(module: nn.Module) -> bool:
    return any(base.__module__.startswith("mmcv.ops") for base in type(module).__mro__)


def _contiguous(module: nn.Module, args: tuple) -> tuple:
    return tuple(arg.contiguous() if isinstance(arg, Tensor) else arg for arg in args)
