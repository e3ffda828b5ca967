"""Checkpoints and videos for comparing with the original VisTR network.

:func:`released_layout` writes down the keys and shapes of the released checkpoints,
:func:`random_weights` fills them, :func:`random_clip` and :func:`training_clip` draw frames; all
are a function of a seed alone, so that outputs of the original network, stored once, can be
compared with ours anywhere.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from seqformer_original import TrainingClip, linear, norm, resnet_layout
from torch import Tensor

CHANNELS = 384
NUM_INSTANCES = 10
NUM_COLUMNS = 42  # absence, 40 classes, no object
TRANSFORMER = "vistr.transformer"


def released_layout(
    depth: int = 50, num_frames: int = 36, num_layers: int = 6
) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a released checkpoint's ``model``.

    Args:
        depth: Of the ResNet.
        num_frames: Of a clip.
        num_layers: Encoder and decoder layers each.
    """
    body = resnet_layout(depth)
    layout = {f"vistr.backbone.0.body.{name}": shape for name, shape in body.items()}
    layout |= linear("vistr.input_proj", CHANNELS, 2048, (1, 1))
    layout["vistr.query_embed.weight"] = (NUM_INSTANCES * num_frames, CHANNELS)
    layout |= linear("vistr.class_embed", NUM_COLUMNS, CHANNELS)
    for i in range(3):
        layout |= linear(f"vistr.bbox_embed.layers.{i}", CHANNELS if i < 2 else 4, CHANNELS)
    for i in range(num_layers):
        layout |= transformer_layer(f"{TRANSFORMER}.encoder.layers.{i}", ["self_attn"])
        attentions = ["self_attn", "multihead_attn"]
        layout |= transformer_layer(f"{TRANSFORMER}.decoder.layers.{i}", attentions)
    layout |= norm(f"{TRANSFORMER}.decoder.norm", CHANNELS)
    return layout | mask_layout()


def transformer_layer(name, attentions):
    layout = linear(f"{name}.linear1", 2048, CHANNELS) | linear(f"{name}.linear2", CHANNELS, 2048)
    for attention in attentions:
        layout[f"{name}.{attention}.in_proj_weight"] = (3 * CHANNELS, CHANNELS)
        layout[f"{name}.{attention}.in_proj_bias"] = (3 * CHANNELS,)
        layout |= linear(f"{name}.{attention}.out_proj", CHANNELS, CHANNELS)
    for i in range(len(attentions) + 1):
        layout |= norm(f"{name}.norm{i + 1}", CHANNELS)
    return layout


def mask_layout():
    layout = linear("bbox_attention.q_linear", CHANNELS, CHANNELS)
    layout |= linear("bbox_attention.k_linear", CHANNELS, CHANNELS)
    widths = (392, 392, 192, 96, 48)
    for i in range(4):
        layout |= linear(f"mask_head.lay{i + 1}", widths[i + 1], widths[i], (3, 3))
        layout |= norm(f"mask_head.gn{i + 1}", widths[i + 1])
    for i, inputs in enumerate((1024, 512, 256)):
        layout |= linear(f"mask_head.adapter{i + 1}", widths[i + 2], inputs, (1, 1))
    layout |= linear("mask_head.conv_offset", 18, 48, (1, 1))
    layout["mask_head.dcn.weight"] = (24, 48, 3, 3)
    layout |= norm("mask_head.gn5", 24)
    for i, inputs in enumerate((24, 12, 12)):
        layout |= linear(f"insmask_head.{3 * i}", 12, inputs, (3, 3, 3))
        layout |= norm(f"insmask_head.{3 * i + 1}", 12)
    return layout | linear("insmask_head.9", 1, 12, (1, 1, 1))


# Factors on weights that would otherwise keep the spread of their input: so much that classes and
# masks differ between instances, attention is at few cells and masks have an inside.
GAINS = {
    "in_proj_weight": 3.0,
    "class_embed": 3.0,
    "bbox_attention": 4.0,
    "adapter": 0.03,
    "conv_offset": 0.5,
    "insmask_head.9": 4.0,
}
BIASES = {"class_embed": 1.0, "conv_offset": 1.0}


def random_weights(layout: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Fill a layout: every tensor is drawn, statistics and zero-initialised layers included."""
    return {
        name: torch.from_numpy(_draw(name, shape, layout, seed).astype(np.float32))
        for name, shape in layout.items()
    }


def _draw(name, shape, layout, seed):
    # A stream for each tensor: none depends on which others there are.
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    values = 2 * rng.random_sample(shape) - 1
    module, _, tensor = name.rpartition(".")
    if f"{module}.running_var" in layout:
        scale = {"weight": 0.4 if module.endswith("bn3") else 1.0, "running_var": 1.0}.get(tensor)
        return scale * (1 + 0.3 * values) if scale else 0.3 * values
    if module == "vistr.query_embed":
        return 1.7 * values
    kind = next((kind for kind in GAINS if kind in name), None)
    if tensor.endswith("bias"):
        return BIASES.get(kind, 0.1) * values - (name == "insmask_head.9.bias")
    if len(shape) == 1:
        return 1 + 0.3 * values
    values *= GAINS.get(kind, 1.2) * np.sqrt(3 / np.prod(shape[1:]))
    if shape[1] > 3:
        values -= values.mean(axis=1, keepdims=True)
    if name == "mask_head.lay1.weight":
        # Attention maps are small beside the encoder's cells.
        values[:, CHANNELS:] *= 30
    return values


def random_clip(
    num_frames: int, size: tuple[int, int], seed: int = 0, noise: int = 8
) -> list[np.ndarray]:
    """Raw frames (H, W, 3) uint8 BGR: coarse squares that drift slowly, with noise."""
    rng = np.random.RandomState(seed)
    height, width = size
    ground = rng.randint(0, 256, (height // 12 + 2, width // 12 + 5, 3), dtype=np.uint8)
    ground = ground.repeat(12, axis=0).repeat(12, axis=1)
    frames = []
    for t in range(num_frames):
        shift = t * noise // 32
        frame = ground[:height, shift : shift + width].astype(int)
        speckle = rng.randint(-noise, noise + 1, (height, width, 3))
        frames.append((frame + speckle).clip(0, 255).astype(np.uint8))
    return frames


def training_clip(num_frames: int, size: tuple[int, int], seed: int = 0) -> TrainingClip:
    """A clip with three moving ellipses; each is absent in some frames, but seen in others."""
    rng = np.random.RandomState(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    frames = np.stack(random_clip(num_frames, size, seed))
    masks = np.zeros((3, num_frames, height, width), bool)
    for track in range(3):
        center = (0.3 + 0.4 * rng.random_sample(2)) * size
        velocity = 6 * rng.random_sample(2) - 3
        radii = (0.1 + 0.15 * rng.random_sample(2)) * size
        colour = rng.randint(0, 256, 3)
        for t in range(num_frames):
            if t % 4 == track:
                continue
            y, x = center + velocity * t
            inside = ((rows - y) / radii[0]) ** 2 + ((columns - x) / radii[1]) ** 2 < 1
            masks[track, t] = inside
            frames[t][inside] = colour
    return TrainingClip(frames, masks, rng.randint(1, 41, 3))


@dataclass(frozen=True)
class Case:
    """A comparison whose outputs of the original are in ``tests/data/vistr_<name>.npz``.

    Attributes:
        num_frames: Frames of the video.
        size: Height and width of the raw frames.
        side: What their short side is resized to; VisTR's 300 would take too long.
        clip_length: Frames of a clip; the released models have 36.
        depth: Of the ResNet.
        num_layers: Encoder and decoder layers each; the released models have 6.
        seed: Of weights and frames.
        noise: How much frames differ, in grey values and drift.
    """

    num_frames: int
    size: tuple[int, int]
    side: int
    clip_length: int = 5
    depth: int = 50
    num_layers: int = 6
    seed: int = 0
    noise: int = 8

    def weights(self) -> dict[str, Tensor]:
        """The checkpoint's ``model``."""
        layout = released_layout(self.depth, self.clip_length, self.num_layers)
        return random_weights(layout, self.seed)

    def frames(self) -> list[np.ndarray]:
        """The video."""
        return random_clip(self.num_frames, self.size, self.seed, self.noise)


CASES = {
    "r50": Case(5, (121, 163), 97),
    "r101": Case(4, (163, 121), 65, clip_length=4, depth=101, num_layers=2),
    "short": Case(4, (107, 143), 65, clip_length=6, num_layers=2),
    "whole": Case(36, (50, 75), 33, clip_length=36, num_layers=2, seed=1),
    "long": Case(100, (50, 75), 33, clip_length=36, num_layers=2, seed=1, noise=1),
}
TRAINING = {
    "r50": Case(5, (97, 131), 0, num_layers=3),
    "r101": Case(4, (65, 98), 0, clip_length=4, depth=101, num_layers=2),
}
