"""What an object of ShapesVIS looks like: shapes, textures and colours."""

from collections.abc import Callable

import numpy as np

# Shapes and textures are functions of the object's own coordinates u, v, in which the shape fills
# about [-1, 1] x [-1, 1]. A shape gives a boolean, a texture the share of the first of two colours
# in [0, 1], one half on average for every texture: the mean colour tells nothing about the class.


def _polygon_radius(angle: np.ndarray, corners: int) -> np.ndarray:
    """Distance from the centre to the side of a regular polygon in the direction ``angle``."""
    sector = 2 * np.pi / corners
    return np.cos(sector / 2) / np.cos(np.mod(angle, sector) - sector / 2)


def _circle(u, v):
    return u**2 + v**2 < 0.9


def _square(u, v):
    return np.maximum(np.abs(u), np.abs(v)) < 0.82


def _triangle(u, v):
    return np.hypot(u, v) < 1.2 * _polygon_radius(np.arctan2(v, u), 3)


def _star(u, v):
    angle = np.mod(np.arctan2(v, u), 2 * np.pi / 5) - np.pi / 5
    return np.hypot(u, v) < 1.15 - 0.62 * (1 - np.abs(angle) / (np.pi / 5))


def _cross(u, v):
    return (np.minimum(np.abs(u), np.abs(v)) < 0.34) & (np.maximum(np.abs(u), np.abs(v)) < 1.0)


def _ring(u, v):
    radius = np.hypot(u, v)
    return (radius > 0.48) & (radius < 1.0)


def _stripes(u, v):
    return (np.mod(1.7 * v, 1) < 0.5).astype(float)


def _checker(u, v):
    return np.mod(np.floor(1.9 * u + 0.5) + np.floor(1.9 * v + 0.5), 2)


def _dots(u, v):
    # A dot of radius 0.4 in a cell of side 1 covers 0.5 of it.
    return ((np.mod(1.6 * u, 1) - 0.5) ** 2 + (np.mod(1.6 * v, 1) - 0.5) ** 2 < 0.16).astype(float)


def _rings(u, v):
    return (np.mod(2.1 * np.hypot(u, v), 1) < 0.5).astype(float)


def _gradient(u, v):
    return np.clip(0.5 + 0.6 * u, 0, 1)


def _pinwheel(u, v):
    return (np.mod(np.arctan2(v, u) / (np.pi / 3), 1) < 0.5).astype(float)


def _halves(u, v):
    return (u < 0).astype(float)


SHAPES: tuple[Callable, ...] = (_circle, _square, _triangle, _star, _cross, _ring)
TEXTURES: tuple[Callable, ...] = (
    _stripes,
    _checker,
    _dots,
    _rings,
    _gradient,
    _pinwheel,
    _halves,
)


def appearance(label: int) -> tuple[Callable, Callable]:
    """Shape and texture of a class.

    The six ShapesVIS classes differ in both; the longer lists of the benchmarks walk through all
    pairs, so that any two of their up to 42 classes differ in one at least.

    Args:
        label: 0-based class index below ``len(SHAPES) * len(TEXTURES)``.

    Returns:
        The shape's and the texture's function of (u, v).
    """
    shape, turn = label % len(SHAPES), label // len(SHAPES)
    return SHAPES[shape], TEXTURES[(shape + turn) % len(TEXTURES)]


def contrasting_colors(rng: np.random.Generator) -> np.ndarray:
    """(2, 3) two random BGR colours far enough apart for a texture to be seen."""
    while True:
        colors = rng.uniform(0, 255, (2, 3))
        if np.linalg.norm(colors[0] - colors[1]) > 150:
            return colors


def similar_colors(rng: np.random.Generator, colors: np.ndarray) -> np.ndarray:
    """(2, 3) two BGR colours near those of another object, yet visibly different."""
    while True:
        shift = rng.normal(size=(2, 3))
        shift *= rng.uniform(60, 160, (2, 1)) / np.linalg.norm(shift, axis=1, keepdims=True)
        similar = colors + shift
        contrast = np.linalg.norm(similar[0] - similar[1])
        if contrast > 150 and similar.min() >= 0 and similar.max() <= 255:
            return similar
