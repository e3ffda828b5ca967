"""Clips from single images."""

import random
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as mask_utils

from ..coco_clips import COCOClips
from .loading import LoadFrame


@TRANSFORMS.register_module()
class LoadImageClip(BaseTransform):
    """Load the clip of an image: random copies of the image and its objects.

    One frame, drawn at random, is the image as it is. Each of the others is a copy of its own:
    brightness or hue and saturation or all of them changed, corners moved inwards (a change of
    perspective), turned, scaled and sheared about the centre, shifted, and now and then blurred as
    by motion. What comes from outside of the image is black and of no object. Frames that the
    clip has twice are the same copy. Masks are moved with the image (nearest neighbour), boxes are
    those of the moved masks, and an object without a pixel in a frame is absent from it.

    Source: SeqFormer (Wu et al., ECCV 2022), whose repository has the ranges that are the defaults
    here. That colours are drawn for each copy, in terms of OpenCV's HSV, and that the corners'
    distances are cut at 0.4, is our reading.

    Required keys, lists over the frames as the transform before it chose them from
    :class:`COCOClips`: ``img_path``, ``height``, ``width``, ``frame_id``, ``video_id``,
    ``instances``.

    Added keys, lists over the frames: ``img``, ``img_shape``, ``ori_shape``, ``gt_bboxes``
    (n, 4) float32, ``gt_bboxes_labels`` (n,) int64, ``gt_ignore_flags`` (n,) bool,
    ``gt_instances_ids`` (n,) int32, ``gt_masks`` (``BitmapMasks``).

    Removed keys: ``instances``, which no longer tell where the objects are.

    Args:
        rotation (float): Largest angle, in degrees, in either direction.
        scale (tuple[float, float]): Least and largest factor.
        shear (float): Largest angle, in degrees, in either direction.
        translation (float): Largest shift in either direction, as a share of width and height.
        perspective (float): Standard deviation of the corners' distances to those of the image,
            as a share of width and height.
        brightness (int): Largest value added to the pixels, in either direction.
        hue_saturation (int): Largest value added to hue and saturation, of 256 each, in either
            direction.
        blur_prob (float): How often a copy is blurred.
        blur_sizes (Sequence[int]): Lengths of the blur in pixels, odd; one is drawn.
        backend_args (dict, optional): Of the files.

    Raises:
        ValueError: An argument is out of range, or a clip is not of a single image.
        DatasetError: The file is missing, is no image, or is not as large as the JSON says.
    """

    def __init__(
        self,
        rotation: float = 20.0,
        scale: tuple[float, float] = (1.0, 1.0),
        shear: float = 0.0,
        translation: float = 0.1,
        perspective: float = 0.08,
        brightness: int = 40,
        hue_saturation: int = 5,
        blur_prob: float = 0.25,
        blur_sizes: Sequence[int] = (9, 11),
        backend_args: dict | None = None,
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be (least, largest) factor, both positive, got {scale}")
        if not 0 <= shear < 90:
            raise ValueError(f"shear must be an angle in [0, 90), got {shear}")
        if any(size < 1 or size % 2 == 0 for size in blur_sizes):
            raise ValueError(f"blur_sizes must be odd and positive, got {tuple(blur_sizes)}")
        self.rotation = rotation
        self.scale = tuple(scale)
        self.shear = shear
        self.translation = translation
        self.perspective = perspective
        self.brightness = brightness
        self.hue_saturation = hue_saturation
        self.blur_prob = blur_prob
        self.blur_sizes = tuple(blur_sizes)
        self.load = LoadFrame(backend_args=backend_args)
        self.load.file_words = COCOClips.file_words

    def transform(self, results: dict) -> dict:
        if len(set(results["img_path"])) != 1:
            raise ValueError(
                f"video {results['video_id'][0]}: LoadImageClip is for videos of one image "
                f"(COCOClips), this one has frames from {len(set(results['img_path']))} files"
            )
        keys = ("img_path", "height", "width", "video_id")
        image = self.load({key: results[key][0] for key in keys})["img"]
        instances = results.pop("instances")[0]
        bits = pack_masks([instance["mask"] for instance in instances], *image.shape[:2])
        frames = sorted(set(results["frame_id"]))
        original = random.choice(frames)
        copies = {f: (image, bits) if f == original else self.copy(image, bits) for f in frames}
        # Arrays of its own for each frame, those that the clip has twice too: MMDetection's
        # transforms change boxes in place.
        clip = [_annotated(*copies[frame], instances) for frame in results["frame_id"]]
        for key in clip[0]:
            results[key] = [frame[key] for frame in clip]
        return results

    def copy(self, image: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A random copy of an image (h, w, 3) and its masks (h, w, c) of :func:`pack_masks`."""
        height, width = image.shape[:2]
        homography = self.random_homography(height, width)
        image, bits = self.change_colors(image), warp_masks(bits, homography)
        image = cv2.warpPerspective(image, homography, (width, height), flags=cv2.INTER_LINEAR)
        if random.random() < self.blur_prob:
            kernel = blur_kernel(random.choice(self.blur_sizes), random.uniform(0, 180))
            image = cv2.filter2D(image, -1, kernel)
        return image, bits

    def random_homography(self, height: int, width: int) -> np.ndarray:
        """Where the pixels (x, y, 1) of an image go, (3, 3) float64."""
        size = np.array([width, height])
        # Of the area of the pixels: cv2 gives the centre of the first one the coordinates 0, 0.
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size - 0.5
        inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * size
        distances = [[random.gauss(0, self.perspective) for _ in range(2)] for _ in range(4)]
        seen = corners + inwards * np.abs(distances).clip(max=0.4)
        perspective = cv2.getPerspectiveTransform(
            seen.astype(np.float32), corners.astype(np.float32)
        )
        shift = [random.uniform(-self.translation, self.translation) for _ in range(2)]
        center, angle = (size - 1) / 2, np.deg2rad(random.uniform(-self.rotation, self.rotation))
        shear = np.tan(np.deg2rad(random.uniform(-self.shear, self.shear)))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        affine = np.eye(3)
        affine[:2, :2] = random.uniform(*self.scale) * turn @ np.array([[1, shear], [0, 1]])
        affine[:2, 2] = center + shift * size - affine[:2, :2] @ center
        return affine @ perspective

    def change_colors(self, image: np.ndarray) -> np.ndarray:
        """Change brightness, or hue and saturation, or all of them, of (h, w, 3) uint8 BGR."""
        changes = random.choice(["brightness", "hue_saturation", "all"])
        if changes != "hue_saturation":
            value = random.randint(-self.brightness, self.brightness)
            image = cv2.LUT(image, _shifted(value))
        if changes != "brightness":
            hue, saturation = (
                random.randint(-self.hue_saturation, self.hue_saturation) for _ in range(2)
            )
            # Hue in OpenCV's uint8 images is in [0, 180).
            turned = ((np.arange(256) + round(hue * 180 / 256)) % 180).astype(np.uint8)
            table = np.stack([turned, _shifted(saturation), _shifted(0)], axis=-1)[None]
            hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), table)
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        return image

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(rotation={self.rotation}, scale={self.scale}, "
            f"shear={self.shear}, translation={self.translation}, "
            f"perspective={self.perspective}, brightness={self.brightness}, "
            f"hue_saturation={self.hue_saturation}, blur_prob={self.blur_prob}, "
            f"blur_sizes={self.blur_sizes})"
        )


def _shifted(value: int) -> np.ndarray:
    """A table that adds a value to uint8 and stays in its range."""
    return (np.arange(256) + value).clip(0, 255).astype(np.uint8)


def blur_kernel(size: int, angle: float) -> np.ndarray:
    """A line through the centre, as motion blurs; (size, size) float32 of sum 1.

    Args:
        size: Odd.
        angle: In degrees.
    """
    line = np.zeros((size, size), dtype=np.float32)
    line[size // 2] = 1
    turn = cv2.getRotationMatrix2D((size // 2, size // 2), angle, 1)
    line = cv2.warpAffine(line, turn, (size, size))
    return line / line.sum()


# NumPy's own packbits is several times as slow along the first axis.
_SHIFTS = np.arange(8, dtype=np.uint8)[:, None, None]


def pack_masks(rles: Sequence[dict], height: int, width: int) -> np.ndarray:
    """Masks as the bits of uint8 channels, so that all of them are warped at once.

    Args:
        rles: n compressed RLEs of this size.
        height: In pixels.
        width: In pixels.

    Returns:
        np.ndarray: (height, width, ceil(n / 8)) uint8.
    """
    count = -(-len(rles) // 8)
    masks = np.zeros((8 * count, width, height), dtype=np.uint8)
    if rles:
        masks[: len(rles)] = mask_utils.decode(list(rles)).transpose(2, 1, 0)  # by columns
    bits = np.bitwise_or.reduce(masks.reshape(count, 8, width, height) << _SHIFTS, axis=1)
    return np.ascontiguousarray(bits.transpose(2, 1, 0))


def unpack_masks(bits: np.ndarray, count: int) -> np.ndarray:
    """Undo :func:`pack_masks`.

    Returns:
        np.ndarray: (count, height, width) uint8, 0 or 1.
    """
    height, width, channels = bits.shape
    masks = bits.transpose(2, 0, 1)[:, None] >> _SHIFTS[: max(count, 1)] & 1
    return masks.reshape(-1, height, width)[:count]


def warp_masks(bits: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Move packed masks, nearest neighbour, nothing coming in from outside.

    Args:
        bits: (h, w, c) uint8 of :func:`pack_masks`.
        homography: (3, 3), where the pixels (x, y, 1) go.

    Returns:
        np.ndarray: As ``bits``.
    """
    height, width, channels = bits.shape
    moved = np.empty_like(bits)
    for start in range(0, channels, 4):  # OpenCV warps up to 4 channels
        chunk = np.ascontiguousarray(bits[..., start : start + 4])
        warped = cv2.warpPerspective(chunk, homography, (width, height), flags=cv2.INTER_NEAREST)
        moved[..., start : start + 4] = warped.reshape(chunk.shape)
    return moved


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Boxes around the pixels of masks, none of them empty.

    Args:
        masks: (n, h, w), 0 or 1.

    Returns:
        np.ndarray: (n, 4) float32 xyxy; the last pixel of a mask ends where its box does.
    """
    ends = []
    for along in (masks.any(axis=1), masks.any(axis=2)):  # (n, w), (n, h)
        ends.append((along.argmax(axis=1), along.shape[1] - along[:, ::-1].argmax(axis=1)))
    (x1, x2), (y1, y2) = ends
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)


def _annotated(image: np.ndarray, bits: np.ndarray, instances: list[dict]) -> dict:
    """A frame as ``LoadTrackAnnotations`` gives it, without the objects that have no pixel."""
    masks = unpack_masks(bits, len(instances))
    visible = masks.any(axis=(1, 2)).nonzero()[0]
    masks = masks[visible]

    def values(key: str, dtype) -> np.ndarray:
        return np.array([instances[i][key] for i in visible], dtype=dtype)

    return dict(
        img=image.copy(),
        img_shape=image.shape[:2],
        ori_shape=image.shape[:2],
        gt_bboxes=mask_boxes(masks),
        gt_bboxes_labels=values("bbox_label", np.int64),
        gt_ignore_flags=values("ignore_flag", bool),
        gt_instances_ids=values("instance_id", np.int32),
        gt_masks=BitmapMasks(masks, *image.shape[:2]),
    )
