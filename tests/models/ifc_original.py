"""Checkpoints and videos for comparing with the original IFC network.

:func:`released_layout` writes down the keys and shapes of the released checkpoints,
:func:`random_weights` fills them; both are a function of a seed alone, so that outputs of the
original network, stored once, can be compared with ours anywhere.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from minvis_original import resnet_layout
from seqformer_original import linear, mlp, norm
from stmask_original import random_video
from torch import Tensor

TRANSFORMER, MASK_HEAD = "detr.transformer", "detr.mask_head"


def released_layout(depth: int = 50, num_classes: int = 40, num_memory: int = 8) -> dict:
    """Key -> shape of a released checkpoint's ``model``.

    Args:
        depth: Of the ResNet.
        num_classes: 40 of YouTube-VIS, 80 of COCO.
        num_memory: Memory tokens of a frame.
    """
    body = resnet_layout(depth)
    layout = {f"detr.backbone.0.backbone.{name}": shape for name, shape in body.items()}
    layout |= linear("detr.input_proj", 256, 2048, (1, 1))
    layout["detr.query_embed.weight"] = (100, 256)
    layout |= linear("detr.class_embed.layers.0", 256)
    layout |= linear("detr.class_embed.layers.1", num_classes + 1)
    layout |= {f"{TRANSFORMER}.{name}": (num_memory, 256) for name in ("memory_bus", "memory_pos")}
    for i in range(3):
        for kind in ("enc_layers", "bus_layers"):
            layout |= transformer_layer(f"{TRANSFORMER}.encoder.{kind}.{i}", ["self_attn"])
        layer = f"{TRANSFORMER}.clip_decoder.layers.{i}"
        layout |= transformer_layer(layer, ["self_attn", "multihead_attn"])
    layout |= norm(f"{TRANSFORMER}.clip_decoder.norm")
    for i in (1, 2, 3):
        layout |= linear(f"{MASK_HEAD}.lay{i}", 256, 256, (3, 3)) | norm(f"{MASK_HEAD}.gn{i}")
    layout |= linear(f"{MASK_HEAD}.adapter1", 256, 1024, (1, 1))
    layout |= linear(f"{MASK_HEAD}.adapter2", 256, 512, (1, 1))
    layout |= linear(f"{MASK_HEAD}.out_lay.depthwise", 256, 1, (5, 5))
    layout |= linear(f"{MASK_HEAD}.out_lay.pointwise", 256, 256, (1, 1))
    layout |= mlp(f"{MASK_HEAD}.convert_to_weight", 256)
    layout["criterion.empty_weight"] = (num_classes + 1,)
    return layout


def transformer_layer(name: str, attentions: list[str]) -> dict:
    """A layer of DETR: attentions, a feed-forward network, and a norm behind each."""
    layout = linear(f"{name}.linear1", 2048) | linear(f"{name}.linear2", 256, 2048)
    for i, attention in enumerate(attentions):
        layout[f"{name}.{attention}.in_proj_weight"] = (768, 256)
        layout[f"{name}.{attention}.in_proj_bias"] = (768,)
        layout |= linear(f"{name}.{attention}.out_proj", 256)
        layout |= norm(f"{name}.norm{i + 1}")
    return layout | norm(f"{name}.norm{len(attentions) + 1}")


# Factors on weights that would otherwise keep the spread of their input.
GAINS = {
    "self_attn.out_proj": 0.4,
    "multihead_attn.out_proj": 0.8,
    "linear2": 0.5,
    "in_proj_weight": 1.6,
    "class_embed.layers.1": 1.5,
}
EMBEDDINGS = {"query_embed": 3.0, "memory_bus": 1.5, "memory_pos": 1.5}
# Of the logit of no object: a few of the 100 queries stand for an object.
NO_OBJECT_BIAS = 4.0


def random_weights(layout: dict, seed: int = 0) -> dict[str, Tensor]:
    """Fill a layout: every tensor is drawn, statistics included.

    Kernels and matrices sum to zero over their inputs, so that what differs between positions or
    queries is not lost in the mean of rectified features; the gains keep queries apart, also after
    self-attention.
    """
    weights = {
        name: torch.from_numpy(_draw(name, shape, layout, seed).astype(np.float32))
        for name, shape in layout.items()
        if name != "criterion.empty_weight"
    }
    weights["detr.class_embed.layers.1.bias"][-1] += NO_OBJECT_BIAS
    return weights


def _draw(name, shape, layout, seed):
    # A stream for each tensor: none depends on which others there are.
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    values = 2 * rng.random_sample(shape) - 1
    module, _, tensor = name.rpartition(".")
    if f"{module}.running_var" in layout:
        ranges = {"weight": 0.4 if module.endswith("conv3.norm") else 1.0, "running_var": 1.0}
        return ranges[tensor] * (1 + 0.3 * values) if tensor in ranges else 0.3 * values
    for kind, spread in EMBEDDINGS.items():
        if kind in name:
            return spread * values
    if tensor.endswith("bias"):
        return 0.1 * values
    if len(shape) == 1:
        return 1 + 0.3 * values
    gain = next((size for kind, size in GAINS.items() if kind in name), 1.2)
    values *= gain * np.sqrt(3 / np.prod(shape[1:]))
    return values - values.mean(axis=1, keepdims=True) if shape[1] > 3 else values


@dataclass(frozen=True)
class Case:
    """A comparison whose outputs of the original are stored in ``tests/data/ifc_<name>.npz``.

    Attributes:
        depth: Of the ResNet.
        config: Our config.
        size: Height and width of the raw frames.
        short_side: To which the short side of the frames is resized.
        num_frames: Of the video.
        seed: Of the weights.
    """

    depth: int
    config: str
    size: tuple[int, int]
    short_side: int
    num_frames: int
    seed: int = 0

    def weights(self) -> dict[str, Tensor]:
        """The checkpoint's ``model``."""
        weights = random_weights(released_layout(self.depth), self.seed)
        if self.depth == 101:
            # Its frames are not divided by a standard deviation.
            weights["detr.backbone.0.backbone.stem.conv1.weight"] /= 58
        return weights

    def video(self) -> list[np.ndarray]:
        """Raw frames (H, W, 3) uint8 BGR."""
        return random_video(max(10, self.num_frames), self.size)[: self.num_frames]


CASES = {
    "r50": Case(50, "ifc_r50_ytvis19.py", (130, 174), 97, 8),
    "r101": Case(101, "ifc_r101_t36_ytvis19.py", (174, 131), 65, 7),
    "short": Case(50, "ifc_r50_ytvis19.py", (97, 130), 65, 3),
    "strided": Case(50, "ablations/ifc_r50_t5-s3_ytvis19.py", (40, 53), 33, 18),
    "long": Case(50, "ifc_r50_ytvis19.py", (40, 53), 33, 100),
}
