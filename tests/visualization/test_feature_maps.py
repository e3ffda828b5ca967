import numpy as np
import pytest
import torch
from torch import nn

from mmvis_plugin.apis.inspection import at_frame_size
from mmvis_plugin.models.inspection import activation, recorded
from mmvis_plugin.visualization.feature_maps import (
    draw_outline,
    heat_bar,
    heat_colors,
    paint_heat,
)


def brightness(picture):
    return picture.astype(float) @ (0.114, 0.587, 0.299)


def test_activation_is_the_norm_or_one_channel():
    features = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    norm = features.square().sum(2).sqrt()
    torch.testing.assert_close(activation(features), norm)
    torch.testing.assert_close(activation(features, 1), features[:, :, 1].abs())
    for channel in (3, -1):
        with pytest.raises(ValueError, match=f"no channel {channel}; the features have 3"):
            activation(features, channel)


def test_map_lies_where_it_is_of_on_the_frame():
    """A frame of 24 x 40 in a padded 32 x 64, seen on a grid of stride 4, at twice its size."""
    grid = torch.zeros(1, 8, 16)
    grid[0, 2:4, 5:8] = 1  # pixels 8 to 16 and 20 to 32 of the padded frame
    grid[0, 7:, 12:] = 9  # padding
    heat = at_frame_size(grid, (32, 64), {"img_shape": (24, 40)}, (80, 48))[0]
    assert heat.shape == (48, 80) and heat.max() <= 1
    inside, near = np.zeros((48, 80), bool), np.zeros((48, 80), bool)
    inside[18:30, 42:62] = near[14:34, 38:66] = True
    assert (heat > 0.5)[inside].all() and not (heat > 0.5)[~near].any()
    assert at_frame_size(grid[:0], (32, 64), {"img_shape": (24, 40)}, (80, 48)).shape == (0, 48, 80)


def test_larger_values_are_brighter_everywhere_in_the_range():
    assert (np.diff(brightness(heat_colors(np.linspace(0, 1, 100)))) >= -1).all()
    frame = np.random.default_rng(0).integers(0, 256, (20, 50, 3), dtype=np.uint8)
    steps = [brightness(paint_heat(frame, np.full((20, 50), v), 4.0)) for v in (0, 1, 2, 3, 4)]
    assert all(b.mean() > a.mean() for a, b in zip(steps, steps[1:], strict=False))
    # The brightest frame without heat is darker than heat.
    assert steps[0].max() < 190 < steps[4].min()


def test_scale_begins_at_the_lowest_value():
    frame = np.full((4, 4, 3), 100, np.uint8)
    none, low = np.zeros((4, 4)), np.full((4, 4), 2.0)
    np.testing.assert_array_equal(paint_heat(frame, low, 3, 2), paint_heat(frame, none, 3))
    flat = paint_heat(frame, low, 2, 2)  # no range at all
    assert np.isfinite(flat).all()


def test_bar_runs_from_dark_to_bright():
    bar = heat_bar(400, 7.5, 0, "norm")
    line = brightness(bar[-1:])[0]
    assert line[0] < 10 and line[-1] > 220 and (np.diff(line) >= -1).all()
    assert (brightness(bar[: bar.shape[0] // 2]) < 100).any(axis=0)[370:].any()  # the top value


def test_outline_is_the_masks_rim():
    picture = np.zeros((60, 60, 3), np.uint8)
    mask = np.zeros((60, 60), bool)
    mask[20:40, 10:50] = True
    draw_outline(picture, mask, (1, 2, 3))
    drawn = (picture == (1, 2, 3)).all(axis=-1)
    rim = mask.copy()
    rim[21:39, 11:49] = False
    np.testing.assert_array_equal(drawn, rim)


def test_outputs_are_recorded_inside_the_block_only():
    module = nn.Linear(2, 2)
    with recorded(module) as outputs:
        expected = [module(torch.ones(2)), module(torch.zeros(2))]
    module(torch.ones(2))
    assert len(outputs) == 2
    torch.testing.assert_close(outputs, expected)
