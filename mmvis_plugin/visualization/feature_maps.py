"""Heat over a frame, and what else is drawn of a model's values."""

from collections.abc import Sequence

import cv2
import numpy as np

from .contact_sheet import WHITE, Section, contact_sheet
from .labels import text_height, text_width, write_label

BAR_TEXT = 14  # size of letters


def heat_colors(values: np.ndarray) -> np.ndarray:
    """Colours of Matplotlib's inferno, which grow lighter evenly, also for colour-blind viewers.

    Args:
        values: (...), from 0 to 1; what lies beyond is cut off.

    Returns:
        np.ndarray: (..., 3) uint8 BGR.
    """
    import matplotlib

    rgba = matplotlib.colormaps["inferno"](values.clip(0, 1), bytes=True)
    return np.ascontiguousarray(rgba[..., 2::-1])


def paint_heat(frame: np.ndarray, heat: np.ndarray, top: float, low: float = 0.0) -> np.ndarray:
    """Heat over a frame, which is grey and dim, so that bright places are those of large values.

    Args:
        frame: (H, W, 3) uint8 BGR.
        heat: (H, W).
        top: The value shown brightest.
        low: The value shown darkest.

    Returns:
        np.ndarray: (H, W, 3) uint8 BGR.
    """
    heat = ((heat - low) / max(top - low, np.finfo(np.float32).tiny)).clip(0, 1)
    grey = 0.8 * cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[..., None]
    opacity = 0.3 + 0.7 * heat[..., None]
    return (opacity * heat_colors(heat) + (1 - opacity) * grey).round().astype(np.uint8)


def heat_bar(width: int, top: float, low: float, text: str) -> np.ndarray:
    """The scale of heat, with what it is of.

    Args:
        width: Of the picture in pixels.
        top: The value shown brightest.
        low: The value shown darkest.
        text: What the values are.

    Returns:
        np.ndarray: (H, W, 3) uint8 BGR.
    """
    height = text_height(BAR_TEXT)
    bar = np.full((2 * height, width, 3), 255, np.uint8)
    bar[height:] = heat_colors(np.linspace(0, 1, width))
    high = f"{top:.3g}"
    write_label(bar, f"{low:.3g}   {text}", (0, 0), BAR_TEXT, WHITE)
    write_label(bar, high, (max(width - text_width(high, BAR_TEXT), 0), 0), BAR_TEXT, WHITE)
    return bar


def heat_sheet(
    sections: Sequence[Section], columns: int, text: str, top: float, low: float = 0.0
) -> np.ndarray:
    """A contact sheet of heat with its scale below; see :func:`contact_sheet`, :func:`heat_bar`."""
    sheet = contact_sheet(sections, columns)
    return np.vstack([sheet, heat_bar(sheet.shape[1], top, low, text)])


def draw_outline(picture: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draw the outline of a mask (H, W) on a picture of that size, changed in place."""
    found, _ = cv2.findContours(
        np.ascontiguousarray(mask, np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, found, -1, color, max(1, round(min(picture.shape[:2]) / 150)))


def draw_points(picture: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(P, 2) points on a grey picture; the brightest, of weight 1, last."""
    height, width = picture.shape[:2]
    drawn = paint_heat(picture, np.zeros((height, width), np.float32), 1)
    colors = heat_colors(weights).tolist()
    largest = max(2.0, min(height, width) / 50)
    for i in weights.argsort(kind="stable").tolist():
        x, y = points[i] * (width, height)
        # Far outside a point cannot be drawn, and OpenCV takes 32 bits.
        if abs(x) < 2 * width and abs(y) < 2 * height:
            radius = max(1, round(largest * float(weights[i]) ** 0.5))
            cv2.circle(drawn, (round(float(x) - 0.5), round(float(y) - 0.5)), radius, colors[i], -1)
    return drawn


def draw_bars(weights: np.ndarray, shape: tuple[int, ...], color: tuple) -> np.ndarray:
    """A bar a frame, the highest as high as the picture."""
    height, width = shape[:2]
    picture = np.full(shape, 255, np.uint8)
    edges = np.linspace(0, width, len(weights) + 1).round().astype(int)
    for left, right, weight in zip(edges, edges[1:], weights / weights.max(), strict=False):
        top = height - round(float(weight) * height)
        picture[top:, left : max(right - 1, left + 1)] = color
    return picture


def draw_box(
    picture: np.ndarray, corners: np.ndarray, color: tuple[int, int, int], bold: bool
) -> None:
    """Draw a box (x1, y1, x2, y2 in widths and heights) on a picture, changed in place."""
    x1, y1, x2, y2 = _pixels(corners, picture)
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), color, _thickness(picture) if bold else 1)


def draw_arrow(
    picture: np.ndarray, start: np.ndarray, end: np.ndarray, color: tuple[int, int, int]
) -> None:
    """Draw an arrow from centre to centre of two such boxes on a picture, changed in place."""
    ends = (_pixels((box[:2] + box[2:]) / 2, picture) for box in (start, end))
    cv2.arrowedLine(picture, *ends, color, _thickness(picture), tipLength=0.3)


def _pixels(places: np.ndarray, picture: np.ndarray) -> tuple[int, ...]:
    size = np.resize(picture.shape[1::-1], len(places))
    return tuple((places * size).round().astype(int).tolist())


def _thickness(picture: np.ndarray) -> int:
    return max(2, round(min(picture.shape[:2]) / 80))
