import numpy as np
import pytest

from mmvis_plugin.visualization import track_color, track_palette
from mmvis_plugin.visualization.colors import ink_on

# What linear RGB looks like to normal, protanopic and deuteranopic viewers
# (Machado, Oliveira and Fernandes 2009, severity 1).
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
LINEAR_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
D65_WHITE = np.array([0.95047, 1.0, 1.08883])


def linear_rgb(colors_bgr):
    rgb = np.asarray(colors_bgr, float)[..., ::-1] / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab_as_seen(colors_bgr, viewer):
    seen = (linear_rgb(colors_bgr) @ np.array(VISION[viewer]).T).clip(0, 1)
    xyz = seen @ LINEAR_RGB_TO_XYZ.T / D65_WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def ciede2000(first, second):
    """Colour difference of CIELAB values (..., 3), after Sharma, Wu and Dalal 2005."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0)
    mean_chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = (1 - np.sqrt(mean_chroma**7 / (mean_chroma**7 + 25.0**7))) / 2
    c1, c2 = np.hypot((1 + g) * a1, b1), np.hypot((1 + g) * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, (1 + g) * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = h2 - h1
    turn = turn - 360 * np.sign(turn) * (np.abs(turn) > 180)
    delta_l, delta_c = l2 - l1, c2 - c1
    delta_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2)
    hue = np.radians((h1 + turn / 2) % 360)
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * np.cos(hue - np.radians(30))
        + 0.24 * np.cos(2 * hue)
        + 0.32 * np.cos(3 * hue + np.radians(6))
        - 0.20 * np.cos(4 * hue - np.radians(63))
    )
    s_l = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    bend = np.radians(60 * np.exp(-(((np.degrees(hue) - 275) / 25) ** 2)))
    r = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(bend)
    c, h = delta_c / s_c, delta_h / s_h
    return np.sqrt((delta_l / s_l) ** 2 + c**2 + h**2 + r * c * h)


def smallest_distance(colors_bgr, viewer):
    lab = lab_as_seen(colors_bgr, viewer)
    distance = ciede2000(lab[:, None], lab[None])
    return distance[~np.eye(len(lab), dtype=bool)].min()


def test_the_measure_gives_published_values():
    pairs = [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ]
    for first, second, expected in pairs:
        found = ciede2000(np.array(first, float), np.array(second, float))
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("viewer", VISION)
def test_colours_are_told_apart_by_all_viewers(viewer):
    colors = [track_color(i) for i in range(32)]
    assert smallest_distance(colors[:16], viewer) > 11.5
    assert smallest_distance(colors[:20], viewer) > 10.5
    assert smallest_distance(colors, viewer) > 7.5
    # Ids of a video that runs for long are far from 0.
    assert smallest_distance([track_color(i) for i in range(1000, 1032)], viewer) > 7.5


def test_colours_do_not_change():
    # The first colours are Okabe and Ito's; all of them stay what earlier videos were drawn with.
    assert [track_color(i) for i in range(3)] == [(0, 159, 230), (233, 180, 86), (115, 158, 0)]
    pinned = [(30, 0, 150), (0, 15, 195), (240, 255, 135)]
    assert [track_color(i) for i in (7, 15, 31)] == pinned
    assert track_color(40) == track_color(8)
    assert track_palette().tolist() == [list(track_color(i)) for i in range(32)]


def test_letters_contrast_with_every_colour():
    steps = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3).tolist()
    for color in [track_color(i) for i in range(32)] + grid:
        luminance = linear_rgb(color) @ (0.2126, 0.7152, 0.0722)
        ink = ink_on(color) / 255
        low, high = sorted((luminance, ink))
        assert (high + 0.05) / (low + 0.05) >= 4.5
