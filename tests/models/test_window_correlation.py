"""Window correlation against its definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvis_plugin.models.layers import window_correlation


def by_definition(first, second, window):
    batch, channels, height, width = first.shape
    radius = window // 2
    out = first.new_zeros(batch, window * window, height, width)
    for i in range(window):
        for j in range(window):
            for y in range(height):
                for x in range(width):
                    v, u = y + i - radius, x + j - radius
                    if 0 <= v < height and 0 <= u < width:
                        dot = (first[:, :, y, x] * second[:, :, v, u]).sum(1)
                        out[:, i * window + j, y, x] = dot / channels
    return out


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, n) for n in (2, 4, 6, 7))),
    window=st.sampled_from([1, 3, 5, 11]),
    seed=st.integers(0, 99),
)
def test_follows_the_definition(shape, window, seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(shape, generator=generator, dtype=torch.double) for _ in "ab")
    result = window_correlation(first, second, window)
    torch.testing.assert_close(result, by_definition(first, second, window))


def test_displacement_in_y_comes_first():
    first, second = torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)
    first[0, 0, 2, 2] = second[0, 0, 1, 2] = 1  # moved up by one
    (index,) = window_correlation(first, second, 3)[0, :, 2, 2].nonzero(as_tuple=True)
    assert index.tolist() == [1]


def test_autocast_does_not_round_it():
    torch.manual_seed(0)
    first, second = torch.randn(2, 1, 64, 6, 8).unbind(0)
    expected = window_correlation(first, second, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(window_correlation(first, second, 5), expected)
    assert window_correlation(first.bfloat16(), second.bfloat16(), 5).dtype == torch.float32


def test_gradients_reach_both_maps():
    maps = torch.randn(2, 1, 3, 4, 5, dtype=torch.double).unbind(0)
    maps = [m.clone().requires_grad_() for m in maps]
    assert torch.autograd.gradcheck(lambda a, b: window_correlation(a, b, 3), maps)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_what_the_cpu_gives():
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 256, 24, 40).unbind(0)
    on_gpu = window_correlation(first.cuda(), second.cuda()).cpu()
    torch.testing.assert_close(on_gpu, window_correlation(first, second), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [0, 4, -1])
def test_a_window_without_a_middle_is_refused(window):
    with pytest.raises(ValueError, match="odd and positive"):
        window_correlation(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), window)


def test_maps_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        window_correlation(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3), 3)
