"""Optimizer wrappers."""

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor


@OPTIM_WRAPPERS.register_module()
class FiniteOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` that skips steps whose loss is not finite.

    The loss of every process and, if gradients are accumulated, of every batch of the step must be
    finite. The gradients of a step that is skipped are discarded. With ``--amp``
    ``AmpOptimWrapper`` takes its place, which skips such steps by itself.

    Source: the training script of STMask's authors (Li et al., CVPR 2021).

    Args:
        **kwargs: Arguments of ``OptimWrapper``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.is_finite = True

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Compute gradients, and note whether the loss is finite.

        Args:
            loss: Scalar.
            **kwargs: Arguments of ``Tensor.backward``.
        """
        num_bad = (~loss.detach().isfinite()).to(torch.int)
        all_reduce(num_bad)
        self.is_finite = self.is_finite and num_bad.item() == 0
        super().backward(loss, **kwargs)

    def step(self, **kwargs) -> None:
        """Update the parameters unless a loss since the last step was not finite."""
        if self.is_finite:
            super().step(**kwargs)
        else:
            print_log("Skipped a step, since its loss is not finite.", logger="current")
        self.is_finite = True
