"""Checkpoints and videos for comparing with the original MinVIS network.

:func:`released_layout` writes down the keys and shapes of the released checkpoints,
:func:`random_weights` fills them; both are a function of a seed alone, so that outputs of the
original network, stored once, can be compared with ours anywhere.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from seqformer_original import RESNET_BLOCKS, Swin, frozen_norm, linear, norm, swin_layout
from stmask_original import random_video
from torch import Tensor

PIXEL_DECODER, PREDICTOR = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor"


def released_layout(
    backbone: int | Swin = 50, num_classes: int = 40, num_queries: int = 100
) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a released checkpoint's ``model``.

    Args:
        backbone: Depth of a ResNet, or a Swin Transformer.
        num_classes: Number of classes.
        num_queries: Number of queries.
    """
    if isinstance(backbone, Swin):
        channels = [backbone.width * 2**stage for stage in range(4)]
        body = swin_layout(backbone)
    else:
        channels = [256, 512, 1024, 2048]
        body = resnet_layout(backbone)
    layout = {f"backbone.{name}": shape for name, shape in body.items()}
    for i, inputs in enumerate(channels[:0:-1]):
        layout |= linear(f"{PIXEL_DECODER}.input_proj.{i}.0", 256, inputs, (1, 1))
        layout |= norm(f"{PIXEL_DECODER}.input_proj.{i}.1")
    layout[f"{PIXEL_DECODER}.transformer.level_embed"] = (3, 256)
    for i in range(6):
        layer = f"{PIXEL_DECODER}.transformer.encoder.layers.{i}"
        layout |= linear(f"{layer}.self_attn.sampling_offsets", 192)
        layout |= linear(f"{layer}.self_attn.attention_weights", 96)
        layout |= linear(f"{layer}.self_attn.value_proj", 256)
        layout |= linear(f"{layer}.self_attn.output_proj", 256)
        layout |= linear(f"{layer}.linear1", 1024) | linear(f"{layer}.linear2", 256, 1024)
        layout |= norm(f"{layer}.norm1") | norm(f"{layer}.norm2")
    layout |= linear(f"{PIXEL_DECODER}.mask_features", 256, 256, (1, 1))
    for name, inputs, size in (("adapter_1", channels[0], 1), ("layer_1", 256, 3)):
        layout[f"{PIXEL_DECODER}.{name}.weight"] = (256, inputs, size, size)
        layout |= norm(f"{PIXEL_DECODER}.{name}.norm")
    for i in range(9):
        for kind, attention in (("self", "self_attn"), ("cross", "multihead_attn")):
            layer = f"{PREDICTOR}.transformer_{kind}_attention_layers.{i}"
            layout[f"{layer}.{attention}.in_proj_weight"] = (768, 256)
            layout[f"{layer}.{attention}.in_proj_bias"] = (768,)
            layout |= linear(f"{layer}.{attention}.out_proj", 256) | norm(f"{layer}.norm")
        layer = f"{PREDICTOR}.transformer_ffn_layers.{i}"
        layout |= linear(f"{layer}.linear1", 2048) | linear(f"{layer}.linear2", 256, 2048)
        layout |= norm(f"{layer}.norm")
    layout |= norm(f"{PREDICTOR}.decoder_norm")
    for name, rows in (("query_feat", num_queries), ("query_embed", num_queries)):
        layout[f"{PREDICTOR}.{name}.weight"] = (rows, 256)
    layout[f"{PREDICTOR}.level_embed.weight"] = (3, 256)
    layout |= linear(f"{PREDICTOR}.class_embed", num_classes + 1)
    for i in range(3):
        layout |= linear(f"{PREDICTOR}.mask_embed.layers.{i}", 256)
    layout["criterion.empty_weight"] = (num_classes + 1,)
    return layout


def resnet_layout(depth: int) -> dict[str, tuple[int, ...]]:
    """Key -> shape of detectron2's ResNet, its normalisations frozen."""
    layout = conv_norm("stem.conv1", 64, 3, 7)
    inputs = 64
    for stage, num_blocks in enumerate(RESNET_BLOCKS[depth]):
        width, outputs = 64 * 2**stage, 256 * 2**stage
        for i in range(num_blocks):
            block = f"res{stage + 2}.{i}"
            if i == 0:
                layout |= conv_norm(f"{block}.shortcut", outputs, inputs, 1)
            layout |= conv_norm(f"{block}.conv1", width, inputs, 1)
            layout |= conv_norm(f"{block}.conv2", width, width, 3)
            layout |= conv_norm(f"{block}.conv3", outputs, width, 1)
            inputs = outputs
    return layout


def conv_norm(name: str, outputs: int, inputs: int, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, size, size), **frozen_norm(f"{name}.norm", outputs)}


# Factors on weights that would otherwise keep the spread of their input, and ranges of biases.
GAINS = {
    "sampling_offsets": 0.5,
    "attention_weights": 1.0,
    "class_embed": 1.0,
    "self_attn.out_proj": 0.2,
    "multihead_attn.out_proj": 0.6,
    "linear2": 0.4,
    "in_proj_weight": 2.0,
}
BIASES = {"sampling_offsets": 4.0, "attention_weights": 1.0, "class_embed": 0.5}
EMBEDDINGS = {
    "query_feat": 4.0,
    "query_embed": 4.0,
    "level_embed": 1.0,
    "relative_position_bias_table": 1.0,
}


def random_weights(layout: dict[str, tuple[int, ...]], seed: int = 3) -> dict[str, Tensor]:
    """Fill a layout: every tensor is drawn, statistics included.

    What follows from the model's sizes is left out: Swin's index of relative positions, and the
    classes' weights in the loss. Kernels and matrices sum to zero over their inputs, so that what
    differs between positions or queries is not lost in the mean of rectified features; the gains
    keep queries apart, also after self-attention.
    """
    return {
        name: torch.from_numpy(_draw(name, shape, layout, seed).astype(np.float32))
        for name, shape in layout.items()
        if not name.endswith(("relative_position_index", "empty_weight"))
    }


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
        return next((size for kind, size in BIASES.items() if kind in name), 0.1) * values
    if len(shape) == 1:
        return 1 + 0.3 * values
    gain = next((size for kind, size in GAINS.items() if kind in name), 1.2)
    values *= gain * np.sqrt(3 / np.prod(shape[1:]))
    return values - values.mean(axis=1, keepdims=True) if shape[1] > 3 else values


@dataclass(frozen=True)
class Case:
    """A comparison whose outputs of the original are stored in ``tests/data/minvis_<name>.npz``.

    Attributes:
        layout: Of the checkpoint.
        config: Our config.
        size: Height and width of the raw frames, whose short side is resized to ``SHORT_SIDE``.
        step: Every how many frames of :func:`random_video` there is one.
        seed: Of the frames.
    """

    layout: dict[str, tuple[int, ...]]
    config: str
    size: tuple[int, int]
    step: int
    seed: int

    def video(self) -> list[np.ndarray]:
        """Raw frames (H, W, 3) uint8 BGR."""
        return random_video(10, self.size, self.seed)[:: self.step]


CASES = {
    "r50": Case(released_layout(), "minvis_r50_ytvis19.py", (87, 121), step=3, seed=0),
    "swin": Case(
        released_layout(Swin(), num_queries=200),
        "minvis_swin-l_ytvis19.py",
        (118, 75),
        step=5,
        seed=8,
    ),
}
SHORT_SIDE = 60
