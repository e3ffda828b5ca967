import math

import pytest
import torch
from torch import nn

from mmvis_plugin.engine import FiniteOptimWrapper


def wrapped(**kwargs):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    wrapper = FiniteOptimWrapper(optimizer=optimizer, **kwargs)
    return wrapper, parameter


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_step_is_skipped_where_the_loss_is_not_finite(factor):
    wrapper, parameter = wrapped(clip_grad=dict(max_norm=35))
    wrapper.update_params((parameter * factor).sum())
    assert parameter.tolist() == [1, 1, 1]
    wrapper.update_params(parameter.sum())  # the next one is taken, without what was left over
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.9))


def test_all_batches_of_a_step_must_be_finite():
    wrapper, parameter = wrapped(accumulative_counts=2)
    wrapper.initialize_count_status(nn.Linear(1, 1), 0, 4)
    for factor in (math.nan, 1, 2, 4):
        wrapper.update_params(factor * parameter.sum())
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.7))  # of 2 and 4 alone
