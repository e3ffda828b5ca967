"""Letters on pictures: how they look, and where labels stand so that all can be read."""

import logging
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colors import ink_on

Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, the last two exclusive

LABELS = ("id", "class", "full", "none")  # what a label names
MIN_FONT_SIZE = 10  # pixels; capitals are 7 pixels high then, the least that can be read
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

logger = logging.getLogger(__name__)


def font_size(shape: tuple[int, ...]) -> int:
    """Size of letters in pixels for a picture of (height, width): a fixed part of its side."""
    return max(MIN_FONT_SIZE, round(min(shape[:2]) * 0.028))


@lru_cache(maxsize=64)  # a label stays the same for some frames; each takes up to 100 kB
def render_text(text: str, size: int, font: str | None = None) -> np.ndarray:
    """Opacity of a text's letters with a margin around them.

    Args:
        text: One line.
        size: Size of the letters in pixels.
        font: Font file; see :func:`font_file`.

    Returns:
        np.ndarray: (h, w, 1) float32 in 0 to 1, read-only.
    """
    image = Image.new("L", (text_width(text, size, font), text_height(size)))
    # All fonts stand on the line of the default one.
    start = 2 * _margin(size), _load_font(default_font(), size).getmetrics()[0]
    letters = _load_font(font_file(text, font), size)
    ImageDraw.Draw(image).text(start, text, fill=255, font=letters, anchor="ls")
    opacity = np.asarray(image, np.float32)[..., None] / 255
    opacity.flags.writeable = False
    return opacity


def text_width(text: str, size: int, font: str | None = None) -> int:
    """Width in pixels of a rendered text."""
    return round(_load_font(font_file(text, font), size).getlength(text)) + 4 * _margin(size)


def text_height(size: int) -> int:
    """Height in pixels of a rendered text."""
    return sum(_load_font(default_font(), size).getmetrics())


def write_label(
    picture: np.ndarray,
    text: str,
    corner: tuple[int, int],
    size: int,
    color: tuple[int, int, int],
    font: str | None = None,
) -> None:
    """Write a text in black or white on a rectangle of a colour; what juts out is cut off.

    Args:
        picture: (H, W, 3) uint8, changed in place.
        text: One line.
        corner: x and y of the rectangle's upper left corner, inside the picture.
        size: Size of the letters in pixels.
        color: Colour of the rectangle: blue, green, red.
        font: Font file; see :func:`font_file`.
    """
    x, y = corner
    patch = picture[y:, x:][: text_height(size), : text_width(text, size, font)]
    letters = render_text(text, size, font)[: patch.shape[0], : patch.shape[1]]
    color = np.asarray(color, float)
    patch[:] = (color + letters * (ink_on(color) - color) + 0.5).astype(np.uint8)


def track_text(
    class_name: str,
    instance_id: int,
    score: float | None,
    size: int,
    width: int,
    font: str | None = None,
    labels: str = "full",
) -> str:
    """The fullest label of a track that fits.

    Args:
        class_name: Class.
        instance_id: Identity.
        score: In [0, 1]; None for an annotation, which has none.
        size: Size of the letters in pixels.
        width: Available width in pixels.
        font: Font file; see :func:`font_file`.
        labels: What the label names: ``id``, ``class``, or ``full`` for class, id and score.

    Returns:
        str: If it is too wide, it goes without the score, then with a shorter class. The shortest
        is the id alone, or the first letter of the class.
    """
    if labels == "id":
        return str(instance_id)
    end = "" if labels == "class" else f" {instance_id}"
    cuts = range(len(class_name) - 1, 0, -1)
    texts = [f"{class_name}{end}", *(f"{class_name[:cut]}{ELLIPSIS}{end}" for cut in cuts)]
    if labels == "full" and score is not None:
        texts.insert(0, f"{class_name} {instance_id} {score:.2f}")
    fitting = (text for text in texts if text_width(text, size, font) <= width)
    return next(fitting, end.strip() or class_name[:1])


def place_label(
    label_size: tuple[int, int], box: Rect, frame_size: tuple[int, int], taken: list[Rect]
) -> Rect:
    """Where a label stands: at its box if it can, in the frame, off other labels where it can.

    It stands above its box, below it, or in its top or bottom, at either end; where other labels
    are in all of these, at the free place nearest to the first of them; where no place in the
    frame is free, there, over other labels.

    Args:
        label_size: Width and height.
        box: What it names.
        frame_size: Width and height.
        taken: Labels that stand already.

    Returns:
        Rect: In the frame, for a label that is no larger than it.
    """
    width, height = label_size
    last_x, last_y = max(frame_size[0] - width, 0), max(frame_size[1] - height, 0)
    lefts = [min(max(x, 0), last_x) for x in (box[0], box[2] - width)]
    tops = (box[1] - height, box[3] + 1, box[1], box[3] - height)
    usual = [(x, y) for y in tops if 0 <= y <= last_y for x in lefts]
    usual = usual or [(lefts[0], min(max(tops[0], 0), last_y))]
    free = _free(np.array(usual), label_size, taken)
    if free.any():
        x, y = usual[int(free.argmax())]
    else:
        x, y = _nearest_free(usual[0], label_size, (last_x, last_y), taken) or usual[0]
    return x, y, x + width, y + height


def _nearest_free(
    wanted: tuple[int, int], size: tuple[int, int], last: tuple[int, int], taken: list[Rect]
) -> tuple[int, int] | None:
    """The free place nearest to the wanted one, of those that touch a label or the frame's rim.

    A label in a free place can be pushed left and up until it touches the rim or another label's
    right and lower side: if there is a free place at all, one is found.
    """
    rects = np.array(taken)
    xs = np.concatenate([[wanted[0], 0, last[0]], rects[:, 2], rects[:, 0] - size[0]])
    ys = np.concatenate([[wanted[1], 0, last[1]], rects[:, 3], rects[:, 1] - size[1]])
    xs = np.unique(xs[(xs >= 0) & (xs <= last[0])])
    ys = np.unique(ys[(ys >= 0) & (ys <= last[1])])
    corners = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
    corners = corners[np.linalg.norm(corners - wanted, axis=1).argsort(kind="stable")]
    for some in np.split(corners, range(1024, len(corners), 1024)):
        free = _free(some, size, taken)
        if free.any():
            return tuple(some[free.argmax()].tolist())
    return None


def _free(corners: np.ndarray, size: tuple[int, int], taken: list[Rect]) -> np.ndarray:
    """Which places of a label, by their (n, 2) upper left corners, no other label covers."""
    rects = np.array(taken).reshape(-1, 4)
    after = (corners[:, None] + size > rects[:, :2]).all(-1)
    before = (corners[:, None] < rects[:, 2:]).all(-1)
    return ~(after & before).any(1)


def _margin(size: int) -> int:
    return max(1, size // 8)


# --- fonts ------------------------------------------------------------------------------------


@cache
def default_font() -> str:
    """The font that comes with Matplotlib: it has letters beyond Latin, where OpenCV's have not."""
    folder = Path(find_spec("matplotlib").submodule_search_locations[0], "mpl-data/fonts/ttf")
    return str(folder / "DejaVuSans-Bold.ttf")


def font_file(text: str, font: str | None = None) -> str:
    """The font that a text is written in.

    Args:
        text: The text.
        font: The font to use; None for the default one or, where that lacks letters of the text
            (Chinese, Japanese, Korean ...), the first on this machine that has them all. If there
            is none, a warning says so once for each text.
    """
    return font or (default_font() if text.isascii() else _find_font(frozenset(text)))


@cache
def _find_font(letters: frozenset[str]) -> str:
    for path in _fonts():
        if letters <= _letters_of(path):
            return path
    missing = "".join(sorted(letters - _letters_of(default_font())))
    logger.warning("no font on this machine has the letters %s: name a font file (font)", missing)
    return default_font()


def _fonts() -> Iterator[str]:
    from matplotlib import font_manager  # only where a text is not ASCII: it takes a moment

    yield default_font()
    yield from sorted(font_manager.findSystemFonts())


@cache
def _letters_of(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):  # a damaged font, or of a kind that is not read
        return frozenset()


@lru_cache(maxsize=16)
def _load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
