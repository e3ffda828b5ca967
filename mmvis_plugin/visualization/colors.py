"""Identity colours: stable per id, distinct also for colour-blind viewers."""

from functools import cache

import numpy as np

NUM_COLORS = 32
# Okabe and Ito's palette for colour-blind readers without its black (RGB).
OKABE_ITO = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
    ]
)
# What linear RGB looks like to normal, protanopic and deuteranopic viewers
# (Machado, Oliveira and Fernandes 2009, severity 1).
VISION = np.array(
    [
        np.eye(3),
        [
            (0.152286, 1.052583, -0.204868),
            (0.114503, 0.786281, 0.099216),
            (-0.003882, -0.048116, 1.051998),
        ],
        [
            (0.367322, 0.860646, -0.227968),
            (0.280085, 0.672501, 0.047413),
            (-0.011820, 0.042940, 0.968881),
        ],
    ]
)
LINEAR_RGB_TO_XYZ = np.array(
    [
        (0.4124564, 0.3575761, 0.1804375),
        (0.2126729, 0.7151522, 0.0721750),
        (0.0193339, 0.1191920, 0.9503041),
    ]
)
D65_WHITE = np.array((0.95047, 1.0, 1.08883))


def track_color(instance_id: int) -> tuple[int, int, int]:
    """Colour of an identity, the same in every frame, video and run.

    Args:
        instance_id: Identity, 0 or more. Ids 32 apart share a colour; any 32 ids in a row have
            32 colours, each at least 12 CIELAB units from every other, for normal, protanopic
            and deuteranopic viewers alike.

    Returns:
        tuple[int, int, int]: Blue, green, red, each 0 to 255.
    """
    return tuple(track_palette()[instance_id % NUM_COLORS].tolist())


@cache
def track_palette() -> np.ndarray:
    """All identity colours: (32, 3) uint8 array, BGR, read-only.

    The first seven are Okabe and Ito's. Each of the others is, among saturated colours that are
    neither very dark nor very light, the one farthest from all before it as the kind of viewer
    sees it who tells them apart worst.
    """
    steps = np.arange(0, 256, 15)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    seen = _as_seen(candidates)
    lightness, chroma = seen[:, 0, 0], np.hypot(seen[:, 0, 1], seen[:, 0, 2])
    usable = (lightness > 35) & (lightness < 92) & (chroma > 35)
    candidates, seen = candidates[usable], seen[usable]

    palette = list(OKABE_ITO)
    distance = np.min([_worst_distance(seen, color) for color in _as_seen(OKABE_ITO)], axis=0)
    while len(palette) < NUM_COLORS:
        farthest = distance.argmax()
        palette.append(candidates[farthest])
        distance = np.minimum(distance, _worst_distance(seen, seen[farthest]))
    colors = np.array(palette, np.uint8)[:, ::-1].copy()
    colors.flags.writeable = False
    return colors


def _worst_distance(colors: np.ndarray, color: np.ndarray) -> np.ndarray:
    """CIELAB distance to the viewer for whom it is smallest: (n, views, 3), (views, 3) -> (n,)."""
    return np.linalg.norm(colors - color, axis=-1).min(axis=1)


def _as_seen(rgb: np.ndarray) -> np.ndarray:
    """CIELAB values (n, 3 viewers, 3) of sRGB colours (n, 3) in 0 to 255."""
    rgb = np.asarray(rgb) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    viewed = np.einsum("vij,nj->nvi", VISION, linear).clip(0, 1)
    xyz = viewed @ LINEAR_RGB_TO_XYZ.T / D65_WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
