"""Draws tracks on frames."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pycocotools.mask as mask_utils
import torch
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw, ImageFont

from .colors import track_color

Rect = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, the last two exclusive


class TrackVisualizer:
    """Paints each track in the colour of its identity: mask, outline, box and label.

    Line widths and letters grow with the frame's shorter side. Where masks overlap, the track of
    the higher score is on top. A label stands above its box, or where there is room: it stays in
    the frame and, if it can, off other labels.

    Args:
        classes: Class names, indexed by label.
        score_thr: Instances that score less in a frame are not drawn in it.
        mask_alpha: Opacity of the masks, 0 (unseen) to 1. Outlines are always opaque.
        enlarge: Times by which the picture is larger than the frame. Letters are no smaller than
            can be read: on a frame of some hundred pixels they cover what they name, and an
            enlarged picture has room for them.

    Examples:
        >>> visualizer = TrackVisualizer(("circle", "star"), score_thr=0.5)
        >>> picture = visualizer.draw(frame, data_sample.pred_track_instances)
    """

    def __init__(
        self,
        classes: Sequence[str],
        score_thr: float = 0.3,
        mask_alpha: float = 0.45,
        enlarge: int = 1,
    ):
        self.classes = tuple(classes)
        self.score_thr = score_thr
        self.mask_alpha = mask_alpha
        self.enlarge = enlarge

    def draw(self, frame: np.ndarray, instances: InstanceData) -> np.ndarray:
        """Draw the instances of one frame.

        Args:
            frame: Image of shape (H, W, 3), uint8, BGR. It is not changed.
            instances: A frame's ``pred_track_instances``: bboxes (n, 4) xyxy in pixels of the
                frame, labels (n,), scores (n,), instances_id (n,), and masks: n COCO RLEs of
                size [H, W], or a dense array of shape (n, H, W).

        Returns:
            np.ndarray: Picture of shape (enlarge * H, enlarge * W, 3), uint8, BGR.

        Raises:
            ValueError: If a mask's size is not the frame's.
        """
        canvas = self._canvas(frame)
        scores = _to_numpy(instances.scores)
        ascending = np.argsort(scores, kind="stable")
        shown = ascending[scores[ascending] >= self.score_thr]
        if not len(shown):
            return canvas
        ids = _to_numpy(instances.instances_id)[shown]
        labels = _to_numpy(instances.labels)[shown]
        boxes = (_to_numpy(instances.bboxes)[shown] * self.enlarge).round().astype(int)
        colors = np.array([track_color(i) for i in ids.tolist()], np.uint8)

        self._paint_masks(canvas, [instances.masks[i] for i in shown.tolist()], colors)
        for box, color in zip(boxes.tolist(), colors.tolist(), strict=True):
            cv2.rectangle(canvas, box[:2], box[2:], color, _line_width(canvas.shape))
        texts = [
            f"{self.classes[label]} {instance_id} {score:.2f}"
            for label, instance_id, score in zip(labels, ids, scores[shown], strict=True)
        ]
        self._write_labels(canvas, texts, boxes.tolist(), colors)
        return canvas

    def _canvas(self, frame: np.ndarray) -> np.ndarray:
        if self.enlarge == 1:
            return np.ascontiguousarray(frame).copy()
        size = tuple(self.enlarge * side for side in frame.shape[1::-1])
        return cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)

    def _paint_masks(self, canvas: np.ndarray, masks: list, colors: np.ndarray) -> None:
        """Blend masks, later ones over earlier ones, and draw their inner outlines."""
        paint = canvas.copy()
        outline = np.zeros(canvas.shape[:2], np.uint8)
        width = _line_width(canvas.shape)
        kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        for mask, color in zip(masks, colors.tolist(), strict=True):
            frame_shape = (canvas.shape[0] // self.enlarge, canvas.shape[1] // self.enlarge)
            mask, box = _dense_crop(mask, frame_shape)
            mask = mask.repeat(self.enlarge, axis=0).repeat(self.enlarge, axis=1)
            x1, y1, x2, y2 = (self.enlarge * side for side in box)
            if mask.size == 0:
                continue
            core = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
            cv2.copyTo(np.full((*mask.shape, 3), color, np.uint8), mask, paint[y1:y2, x1:x2])
            cv2.copyTo(mask - core, mask, outline[y1:y2, x1:x2])
        cv2.addWeighted(paint, self.mask_alpha, canvas, 1 - self.mask_alpha, 0, dst=canvas)
        cv2.copyTo(paint, outline, canvas)

    def _write_labels(
        self, canvas: np.ndarray, texts: list[str], boxes: list[list[int]], colors: np.ndarray
    ) -> None:
        height, width = canvas.shape[:2]
        size = _font_size(canvas.shape)
        taken: list[Rect] = []
        # The highest score, drawn last, chooses its place first.
        for text, box, color in reversed(list(zip(texts, boxes, colors, strict=True))):
            letters = _render_text(text, size)[:height, :width]
            x1, y1, x2, y2 = _place_label(letters.shape, box, canvas.shape, taken)
            taken.append((x1, y1, x2, y2))
            ink = 0 if color @ (0.114, 0.587, 0.299) > 120 else 255
            canvas[y1:y2, x1:x2] = (color + letters * (ink - color.astype(float)) + 0.5).astype(
                np.uint8
            )


def _to_numpy(values) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _dense_crop(mask, shape: tuple[int, int]) -> tuple[np.ndarray, Rect]:
    """Mask (RLE or dense) as uint8, cut to its bounding box, and that box."""
    size = tuple(mask["size"]) if isinstance(mask, dict) else tuple(mask.shape)
    if size != tuple(shape):
        raise ValueError(f"mask of size {size} on a frame of {tuple(shape)} (height, width)")
    if not isinstance(mask, dict):
        mask = mask_utils.encode(np.asfortranarray(_to_numpy(mask), np.uint8))
    x, y, w, h = mask_utils.toBbox(mask).astype(int).tolist()
    crop = np.ascontiguousarray(mask_utils.decode(mask)[y : y + h, x : x + w])
    return crop, (x, y, x + w, y + h)


def _line_width(shape: tuple[int, ...]) -> int:
    return max(1, round(min(shape[:2]) / 400))


def _font_size(shape: tuple[int, ...]) -> int:
    return max(9, round(min(shape[:2]) * 0.028))


@lru_cache(maxsize=16)
def _load_font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings a font with it that has letters beyond Latin; OpenCV's have ASCII only.
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / "DejaVuSans-Bold.ttf"), size)


@lru_cache(maxsize=64)  # a label stays the same for some frames; each takes up to 100 kB
def _render_text(text: str, size: int) -> np.ndarray:
    """Opacity (h, w, 1) in 0 to 1 of a text's letters, with a margin around them."""
    font = _load_font(size)
    ascent, descent = font.getmetrics()
    margin = max(1, size // 8)
    image = Image.new("L", (round(font.getlength(text)) + 4 * margin, ascent + descent))
    ImageDraw.Draw(image).text((2 * margin, 0), text, fill=255, font=font)
    return np.asarray(image, np.float32)[..., None] / 255


def _place_label(
    label_shape: tuple[int, ...], box: list[int], frame_shape: tuple[int, ...], taken: list[Rect]
) -> Rect:
    """First place of: above the box, below it, in its top; off other labels where it can."""
    label_height, label_width = label_shape[:2]
    height, width = frame_shape[:2]
    x = min(max(box[0], 0), width - label_width)
    above, below, inside = box[1] - label_height, box[3] + 1, box[1]
    fitting = [y for y in (above, below, inside) if 0 <= y <= height - label_height]
    fitting.append(min(max(above, 0), height - label_height))
    places = [(x, y, x + label_width, y + label_height) for y in fitting]
    return next((p for p in places if not any(_overlap(p, q) for q in taken)), places[0])


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
