"""Checkpoints and videos for comparing with the original STMask network.

The original's released checkpoints are bare state dicts. :func:`released_layout` writes down their
keys and shapes, :func:`random_weights` fills them, and :func:`random_video` draws frames; all are a
function of a seed alone, so that outputs of the original network, stored once, can be compared with
ours anywhere. NumPy's ``RandomState`` is used since its stream is frozen across versions.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# Every n-th block of stages 3 to 5 has a deformable convolution, the first block always.
DCN_INTERVAL = {50: 2, 101: 3}
KERNELS = ((3, 3), (3, 5), (5, 3))
# What is compared of a frame's network outputs, and of temporal fusion.
RAW = ("deltas", "logits", "coeffs", "embeddings", "centerness", "prototypes")
SHIFTS = ("box_shifts", "coeff_shifts")
NUM_SAMPLES = 32


@dataclass(frozen=True)
class Case:
    """A comparison whose outputs of the original are stored in ``tests/data/stmask_<name>.npz``.

    Attributes:
        calibration: FCB of the class branch: None, "ada" or "ali".
        background: See :func:`random_weights`.
        num_frames: First frames of :func:`random_video`.
        depth: Of the ResNet.
        input_size: Width and height that frames are resized to. The released models take 640 x 360;
            a quarter of that keeps the test short.
        seed: Of the weights.
    """

    calibration: str | None
    background: float
    num_frames: int
    depth: int = 50
    input_size: tuple[int, int] = (320, 180)
    seed: int = 0


CASES = {
    "r50_fca": Case(None, background=25, num_frames=2),
    "r50_ali": Case("ali", background=17, num_frames=2),
    "r50_ada": Case("ada", background=19, num_frames=14),
    "r101_ada": Case("ada", background=24, num_frames=1, depth=101),
}


def released_layout(
    depth: int = 50, calibration: str | None = None, num_classes: int = 40
) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a released STMask checkpoint.

    Args:
        depth: 50 or 101.
        calibration: FCB of the class branch: None, "ada" or "ali".
        num_classes: Without background.
    """
    layout = backbone_layout(depth, DCN_INTERVAL[depth])
    for i, channels in enumerate((2048, 1024, 512)):
        layout |= conv(f"fpn.lat_layers.{i}", 256, channels, (1, 1))
        layout |= conv(f"fpn.pred_layers.{i}", 256, 256)
    for i in range(2):
        layout |= conv(f"fpn.downsample_layers.{i}", 256, 256)
    for i in (0, 2, 4, 8):
        layout |= conv(f"proto_net.{i}", 256, 256)
    layout |= conv("proto_net.10", 32, 256, (1, 1))

    head = "prediction_layers.0"
    layout |= conv(f"{head}.upfeature.0", 256, 256)
    for tower in ("bbox", "conf", "mask", "track"):
        for i in (0, 2):
            layout |= conv(f"{head}.{tower}_extra.{i}", 256, 256)
    for k, kernel in enumerate(KERNELS):
        for branch, channels in (("bbox", 4), ("mask", 32), ("track", 128), ("centerness", 1)):
            layout |= conv(f"{head}.{branch}_layer.{k}", channels, 256, kernel)
        scores = f"{head}.conf_layer.{k}"
        if calibration is None:
            layout |= conv(scores, num_classes + 1, 256, kernel)
        else:
            layout |= conv(f"{scores}.conv", num_classes + 1, 256, kernel)
            layout[f"{scores}.conv_adaption.weight"] = (256, 256, *kernel)
        if calibration == "ada":
            layout[f"{scores}.conv_offset.weight"] = (2 * kernel[0] * kernel[1], 4, 1, 1)

    for i, channels in enumerate(((512, 633), (512, 512), (1024, 512)), start=1):
        layout |= conv(f"TemporalNet.conv{i}", *channels)
    for layer, channels in (("fc", 4), ("fc_coeff", 32)):
        layout[f"TemporalNet.{layer}.weight"] = (channels, 1024)
        layout[f"TemporalNet.{layer}.bias"] = (channels,)
    return layout


def backbone_layout(depth: int, dcn_interval: int) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the ResNet with deformable convolutions of YOLACT++ and STMask."""
    layout = {"backbone.conv1.weight": (64, 3, 7, 7), **batch_norm("backbone.bn1", 64)}
    inputs = 64
    for stage, num_blocks in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage
        for i in range(num_blocks):
            block = f"backbone.layers.{stage}.{i}"
            layout[f"{block}.conv1.weight"] = (width, inputs, 1, 1)
            layout[f"{block}.conv2.weight"] = (width, width, 3, 3)
            layout[f"{block}.conv3.weight"] = (4 * width, width, 1, 1)
            if stage > 0 and i % dcn_interval == 0:
                layout[f"{block}.conv2.bias"] = (width,)
                layout |= conv(f"{block}.conv2.conv_offset_mask", 27, width)
            for norm, channels in (("bn1", width), ("bn2", width), ("bn3", 4 * width)):
                layout |= batch_norm(f"{block}.{norm}", channels)
            if i == 0:
                layout[f"{block}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                layout |= batch_norm(f"{block}.downsample.1", 4 * width)
            inputs = 4 * width
    return layout


def conv(name: str, outputs: int, inputs: int, kernel=(3, 3)) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    tensors = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{tensor}": (channels,) for tensor in tensors} | {
        f"{name}.num_batches_tracked": ()
    }


def random_weights(
    layout: dict[str, tuple[int, ...]], seed: int, background: float
) -> dict[str, Tensor]:
    """Fill a layout: every tensor is drawn, statistics and zero-initialised layers included.

    The kernels sum to zero over their input channels, or what differs between positions would be
    lost in the mean of the rectified features; their spread keeps the features' from layer to
    layer. Scales are such that scores pass the threshold at some tens of the positions, that most
    centernesses are positive and that the temporal fusion moves boxes by about a tenth of a side.

    Args:
        layout: Key -> shape, e.g. :func:`released_layout`.
        seed: Seed.
        background: Added to the bias of the background's logit: fewer detections if larger.
    """
    return {
        name: torch.from_numpy(np.array(_draw(name, shape, layout, seed, background), np.float32))
        if shape
        else torch.tensor(0)
        for name, shape in layout.items()
    }


def _draw(name, shape, layout, seed, background):
    # A stream for each tensor: none depends on which others there are.
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    values = 2 * rng.random_sample(shape) - 1
    module, tensor = name.rsplit(".", 1)
    if f"{module}.running_var" in layout:
        scale = {"weight": 0.4 if module.endswith("bn3") else 1.0, "running_var": 1.0}.get(tensor)
        return scale * (1 + 0.3 * values) if scale else 0.3 * values
    if tensor == "bias":
        values *= 0.1
    else:
        values *= np.sqrt(6 / np.prod(shape[1:]))
        if shape[1] > 4:
            values -= values.mean(axis=1, keepdims=True)
    if "conf_layer" in name and not module.endswith(("conv_offset", "conv_adaption")):
        if tensor == "weight":
            values *= 4
        else:
            values[0] += background
    if "centerness_layer" in name:
        values = values + 0.6 if tensor == "bias" else 0.6 * values
    if module == "TemporalNet.fc":
        values *= 4
    return values


def random_video(num_frames: int = 14, size: tuple[int, int] = (270, 480), seed: int = 0):
    """Ellipses of one colour that move over a still background, appear and leave.

    Args:
        num_frames: Number of frames.
        size: Height and width.
        seed: Seed.

    Returns:
        list[ndarray]: (H, W, 3) uint8 BGR.
    """
    rng = np.random.RandomState(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    grid = rng.randint(0, 256, (7, 11, 3)).astype(np.float64)
    y, x = rows * 6 / height, columns * 10 / width
    i, j = y.astype(int), x.astype(int)
    v, u = (y - i)[..., None], (x - j)[..., None]
    background = (1 - v) * ((1 - u) * grid[i, j] + u * grid[i, j + 1]) + v * (
        (1 - u) * grid[i + 1, j] + u * grid[i + 1, j + 1]
    )
    frames = [background.astype(np.uint8) for _ in range(num_frames)]
    for _ in range(10):
        start = rng.randint(0, num_frames // 2) * rng.randint(0, 2)
        stop = num_frames if rng.randint(0, 2) else start + rng.randint(2, num_frames // 2)
        center = rng.random_sample(2) * size
        velocity = (rng.random_sample(2) - 0.5) * 0.04 * min(size)
        radii = (0.05 + 0.12 * rng.random_sample(2)) * min(size)
        colour = rng.randint(0, 256, 3)
        for t in range(start, min(stop, num_frames)):
            cy, cx = center + velocity * t
            inside = ((rows - cy) / radii[0]) ** 2 + ((columns - cx) / radii[1]) ** 2 < 1
            frames[t][inside] = colour
    return frames


def sample(values, name: str) -> np.ndarray:
    """The largest magnitude of an array, and values at positions that its name and size decide."""
    values = np.asarray(values, np.float64).ravel()
    rng = np.random.RandomState(zlib.crc32(f"{name} {values.size}".encode()))
    return np.array([np.abs(values).max(), *values[rng.randint(0, values.size, NUM_SAMPLES)]])


@dataclass(frozen=True)
class TrainingFrame:
    """A frame to train on.

    Attributes:
        image: (3, H, W) normalised, float64.
        boxes: (G, 4) xyxy in pixels, float64.
        labels: (G,) 0-based classes.
        ids: (G,) which object of the pair it is, from 0.
        masks: (G, H, W) uint8, ellipses in the boxes.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    masks: np.ndarray


def training_pairs(num_pairs: int = 2, size: tuple[int, int] = (96, 160), seed: int = 0):
    """Pairs of frames with objects, small ones and ones that overlap, of which some come and go.

    Args:
        num_pairs: Number of pairs.
        size: Height and width of the frames.
        seed: Seed.

    Returns:
        list[list[TrainingFrame]]: Two frames each.
    """
    rng = np.random.RandomState(seed)
    return [_training_pair(rng, size) for _ in range(num_pairs)]


def _training_pair(rng, size):
    height, width = size
    count = 5
    sides = rng.uniform(14, 60, (count, 2))
    centers = sides / 2 + rng.random_sample((count, 2)) * ([width, height] - sides)
    centers[1] = centers[0] + 6  # overlaps the first one
    labels = rng.randint(0, 40, count)
    frames = []
    for present in ((0, 1, 2, 3), (0, 1, 2, 4)):
        boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
        boxes = boxes.clip(0, [width, height, width, height])[list(present)]
        frames.append(
            TrainingFrame(
                image=rng.standard_normal((3, height, width)),
                boxes=boxes,
                labels=labels[list(present)],
                ids=np.array(present),
                masks=np.stack([_ellipse(box, size) for box in boxes]),
            )
        )
        centers = centers + rng.uniform(-4, 4, centers.shape)
        sides = sides * rng.uniform(0.9, 1.1, sides.shape)
    return frames


def _ellipse(box, size):
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    (x, y), (w, h) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    return ((2 * (columns - x) / w) ** 2 + (2 * (rows - y) / h) ** 2 < 1).astype(np.uint8)


def project(gradient: np.ndarray, name: str) -> np.ndarray:
    """The norm of a tensor and its product with a random vector that its name decides."""
    values = np.asarray(gradient, np.float64).ravel()
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    return np.array([np.linalg.norm(values), values @ rng.standard_normal(values.size)])
