"""Which precision a computation gets under autocast."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Half and bfloat16 as float32, other types as they are.

    For what has no 16-bit kernel (mmcv's operators on CPU) or would lose by it (box coordinates,
    sums over many products). Float64 is left, so that a model can be compared in double precision.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
