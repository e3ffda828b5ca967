"""Draws tracks on frames."""

import os
from collections.abc import Sequence

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import torch
from mmengine.structures import InstanceData

from mmvis_plugin.ytvis.mask_overlap import mask_nms

from .colors import track_color
from .labels import (
    LABELS,
    Rect,
    font_size,
    place_label,
    text_height,
    text_width,
    track_text,
    write_label,
)
from .trails import Trails

SHORT_SIDE = 256  # pixels from which on labels do not cover what they name
LONG_SIDE = 4096  # pixels beyond which no picture is enlarged
DUPLICATE_IOU = 0.8  # of masks that are nearly the same


class TrackVisualizer:
    """Draws each track in the colour of its identity: mask, outline, box and label.

    Line widths and letters grow with the frame's shorter side. Where masks overlap, the track of
    the higher score is on top. A label stands at its box, or where there is room: it stays in the
    frame and, if it can, off other labels. One that had to go elsewhere is tied to its box by a
    line; one that is too wide for the frame goes without its score, then with a shorter class.

    Of results of one class whose masks are nearly the same, as models without NMS give them, only
    the one of the highest score is drawn.

    Args:
        classes: Class names, indexed by label.
        score_thr: Instances that score less in a frame are not drawn in it.
        mask_alpha: Opacity of the masks, 0 (unseen) to 1. Outlines are always opaque.
        enlarge: Times by which the picture is larger than the frame. Letters are no smaller than
            can be read: on a frame of some hundred pixels they cover what they name, and an
            enlarged picture has room for them.
        trails: Frames over which the path of each track is drawn, 0 for none. With trails a
            visualizer is for one video, whose frames it gets in order.
        font: Font file for the labels. Without it, one that has the letters of the class names.
        labels: What labels name: ``id``, ``class``, ``full`` for class, id and score, or ``none``
            to leave them out.

    Raises:
        ValueError: There is no such kind of labels.

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
        trails: int = 0,
        font: str | os.PathLike | None = None,
        labels: str = "full",
    ):
        if labels not in LABELS:
            raise ValueError(f"labels is {labels!r}; there are {', '.join(LABELS)}")
        self.classes = tuple(classes)
        self.score_thr = score_thr
        self.mask_alpha = mask_alpha
        self.enlarge = enlarge
        self.font = None if font is None else os.fspath(font)
        self.labels = labels
        self._trails = Trails(trails) if trails else None

    def draw(self, frame: np.ndarray, instances: InstanceData) -> np.ndarray:
        """Draw the instances of one frame.

        Args:
            frame: Image of shape (H, W, 3), uint8, BGR. It is not changed.
            instances: A frame's ``pred_track_instances``: bboxes (n, 4) xyxy in pixels of the
                frame, labels (n,), instances_id (n,), and masks: n COCO RLEs of size [H, W], or a
                dense array of shape (n, H, W). Results have scores (n,), too; annotations have
                none, and are all drawn, later ones on top.

        Returns:
            np.ndarray: Picture of shape (enlarge * H, enlarge * W, 3), uint8, BGR.

        Raises:
            ValueError: If a mask's size is not the frame's.
        """
        canvas = self._canvas(frame)
        shown, scores = np.arange(len(instances)), [None] * len(instances)
        if "scores" in instances:
            scores = _to_numpy(instances.scores)
            shown = np.argsort(scores, kind="stable")
            shown = _without_duplicates(instances, shown[scores[shown] >= self.score_thr])
            scores = scores[shown]
        ids = _to_numpy(instances.instances_id)[shown]
        labels = _to_numpy(instances.labels)[shown]
        boxes = _to_numpy(instances.bboxes)[shown]
        corners = (boxes * self.enlarge).round().astype(int).tolist()
        colors = [track_color(i) for i in ids.tolist()]
        width = _line_width(canvas.shape)

        if len(shown):
            self._paint_masks(canvas, [instances.masks[i] for i in shown.tolist()], colors)
        for box, color in zip(corners, colors, strict=True):
            cv2.rectangle(canvas, box[:2], box[2:], color, width)
        if self._trails:
            self._trails.add(ids, boxes)
            self._trails.draw(canvas, self.enlarge, width)
        if self.labels != "none":
            look = font_size(canvas.shape), canvas.shape[1], self.font, self.labels
            texts = [
                track_text(self.classes[label], instance_id, score, *look)
                for label, instance_id, score in zip(labels, ids, scores, strict=True)
            ]
            self._write_labels(canvas, texts, corners, colors)
        return canvas

    def _canvas(self, frame: np.ndarray) -> np.ndarray:
        if self.enlarge == 1:
            return np.ascontiguousarray(frame).copy()
        size = tuple(self.enlarge * side for side in frame.shape[1::-1])
        return cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)

    def _paint_masks(self, canvas: np.ndarray, masks: list, colors: list[tuple]) -> None:
        """Blend masks, later ones over earlier ones, and draw their inner outlines."""
        paint = canvas.copy()
        outline = np.zeros(canvas.shape[:2], np.uint8)
        width = _line_width(canvas.shape)
        kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        for mask, color in zip(masks, colors, strict=True):
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
        self, canvas: np.ndarray, texts: list[str], boxes: list[list[int]], colors: list[tuple]
    ) -> None:
        height, width = canvas.shape[:2]
        size = font_size(canvas.shape)
        taken: list[Rect] = []
        # The highest score chooses its place first.
        labelled = list(zip(texts, boxes, colors, strict=True))[::-1]
        for text, box, _ in labelled:
            label_size = (
                min(text_width(text, size, self.font), width),
                min(text_height(size), height),
            )
            taken.append(place_label(label_size, box, (width, height), taken))
        for (_, box, color), label in zip(labelled, taken, strict=True):
            _tie(canvas, label, box, color, size)
        for (text, _, color), label in zip(labelled, taken, strict=True):
            write_label(canvas, text, label[:2], size, color, self.font)


def default_enlargement(size: tuple[int, int]) -> int:
    """Times by which a frame must grow so that labels have room.

    Args:
        size: Width and height in pixels.

    Returns:
        int: What brings the shorter side to 256 pixels, but the longer one not beyond 4096.
    """
    return max(1, min(-(-SHORT_SIDE // min(size)), LONG_SIDE // max(size)))


def _without_duplicates(instances: InstanceData, rows: np.ndarray) -> np.ndarray:
    """The rows, by rising score, without each whose mask a better one of its class has, too."""
    best_first = rows[::-1]
    masks = [_as_rle(instances.masks[row]) for row in best_first.tolist()]
    labels = _to_numpy(instances.labels)[best_first]
    return best_first[mask_nms(masks, DUPLICATE_IOU, labels)][::-1]


def _tie(canvas: np.ndarray, label: Rect, box: list[int], color: tuple, reach: int) -> None:
    """Draw a line from a label to its box if it stands farther than ``reach`` pixels from it."""
    nearest = [
        (min(max(a, c), d), min(max(c, a), b))
        for a, b, c, d in ((label[i], label[i + 2] - 1, box[i], box[i + 2]) for i in (0, 1))
    ]
    (box_x, label_x), (box_y, label_y) = nearest
    if max(abs(box_x - label_x), abs(box_y - label_y)) > reach:
        cv2.line(canvas, (label_x, label_y), (box_x, box_y), color, _line_width(canvas.shape))


def _to_numpy(values) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _dense_crop(mask, shape: tuple[int, int]) -> tuple[np.ndarray, Rect]:
    """Mask (RLE or dense) as uint8, cut to its bounding box, and that box."""
    size = tuple(mask["size"]) if isinstance(mask, dict) else tuple(mask.shape)
    if size != tuple(shape):
        raise ValueError(f"mask of size {size} on a frame of {tuple(shape)} (height, width)")
    mask = _as_rle(mask)
    x, y, w, h = mask_utils.toBbox(mask).astype(int).tolist()
    crop = np.ascontiguousarray(mask_utils.decode(mask)[y : y + h, x : x + w])
    return crop, (x, y, x + w, y + h)


def _as_rle(mask) -> dict:
    if isinstance(mask, dict):
        return mask
    return mask_utils.encode(np.asfortranarray(_to_numpy(mask), np.uint8))


def _line_width(shape: tuple[int, ...]) -> int:
    return max(1, round(min(shape[:2]) / 400))
