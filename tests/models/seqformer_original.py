"""Checkpoints, clips and annotations for comparing with the original SeqFormer network.

:func:`released_layout` writes down the keys and shapes of the released checkpoints,
:func:`random_weights` fills them, :func:`training_clips` draws annotated frames; all are a function
of a seed alone, so that outputs of the original network, stored once, can be compared with ours
anywhere. NumPy's ``RandomState`` is used since its stream is frozen across versions.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from stmask_original import random_video
from torch import Tensor

RESNET_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
NUM_CLASSES = 42  # columns of the original's class logits: the dataset's category ids from 0 to 41


@dataclass(frozen=True)
class Swin:
    """Sizes of a Swin Transformer; the defaults are Swin-L's."""

    width: int = 192
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (6, 12, 24, 48)
    window: int = 12


@dataclass(frozen=True)
class ResNeXt:
    """Sizes of a ResNeXt; the defaults are those of X-101 32x8d."""

    depth: int = 101
    groups: int = 32
    base_width: int = 8


@dataclass(frozen=True)
class Layout:
    """What tells one checkpoint's layout from another's.

    Attributes:
        backbone: Depth of a ResNet, a ResNeXt, or a Swin Transformer.
        num_encoder_layers: Encoder layers: 6 in SeqFormer, 3 in MSSTS-VIS.
        num_decoder_layers: Decoder layers, likewise.
        num_queries: Queries.
    """

    backbone: int | ResNeXt | Swin = 50
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_queries: int = 300


def released_layout(sizes: Layout = Layout()) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a released checkpoint's ``model``."""
    if isinstance(sizes.backbone, Swin):
        layout = swin_layout(sizes.backbone)
        channels = [sizes.backbone.width * 2**stage for stage in (1, 2, 3)]
    else:
        layout = resnet_layout(sizes.backbone)
        channels = [512, 1024, 2048]
    layout = {f"detr.backbone.0.body.{name}": shape for name, shape in layout.items()}

    for i, inputs in enumerate([*channels, channels[-1]]):
        kernel = (3, 3) if i == 3 else (1, 1)
        layout |= linear(f"detr.input_proj.{i}.0", 256, inputs, kernel)
        layout |= norm(f"detr.input_proj.{i}.1")
    layout["detr.query_embed.weight"] = (sizes.num_queries, 512)
    layout["detr.transformer.level_embed"] = (4, 256)
    layout |= linear("detr.transformer.reference_points", 2)
    for i in range(sizes.num_encoder_layers):
        layer = f"detr.transformer.encoder.layers.{i}"
        layout |= deformable_attention(f"{layer}.self_attn")
        layout |= norm(f"{layer}.norm1") | norm(f"{layer}.norm2")
        layout |= linear(f"{layer}.linear1", 1024) | linear(f"{layer}.linear2", 256, 1024)
    for i in range(sizes.num_decoder_layers):
        layer = f"detr.transformer.decoder.layers.{i}"
        layout |= deformable_attention(f"{layer}.cross_attn")
        layout |= linear(f"{layer}.time_attention_weights", 1)
        for query in ("", "_box"):
            attention = f"{layer}.self_attn{query}"
            layout |= {f"{attention}.in_proj_weight": (768, 256)}
            layout |= {f"{attention}.in_proj_bias": (768,)}
            layout |= linear(f"{attention}.out_proj", 256)
            layout |= linear(f"{layer}.linear1{query}", 1024)
            layout |= linear(f"{layer}.linear2{query}", 256, 1024)
            for n in (1, 2, 3):
                layout |= norm(f"{layer}.norm{n}{query}")
        layout |= linear(f"detr.class_embed.{i}", NUM_CLASSES)
        for module in ("detr.bbox_embed", "detr.transformer.decoder.bbox_embed"):
            layout |= mlp(f"{module}.{i}", 4)
    layout |= mlp("controller", 169)
    for name, outputs, inputs in (
        ("lay1", 64, 256),
        ("lay2", 8, 64),
        ("lay3", 256, 256),
        ("lay4", 256, 256),
        ("dcn", 256, 256),
    ):
        layout |= linear(f"mask_head.{name}", outputs, inputs, (3, 3))
    return layout


def resnet_layout(sizes: int | ResNeXt) -> dict[str, tuple[int, ...]]:
    """Key -> shape of torchvision's ResNet without its classifier, its normalisations frozen.

    Args:
        sizes: Depth of a plain one, or a ResNeXt.
    """
    # A plain one is a ResNeXt of one group.
    sizes = ResNeXt(sizes, groups=1, base_width=64) if isinstance(sizes, int) else sizes
    layout = {"conv1.weight": (64, 3, 7, 7), **frozen_norm("bn1", 64)}
    inputs = 64
    for stage, num_blocks in enumerate(RESNET_BLOCKS[sizes.depth]):
        outputs = 256 * 2**stage
        width = sizes.base_width * sizes.groups * 2**stage
        for i in range(num_blocks):
            block = f"layer{stage + 1}.{i}"
            layout[f"{block}.conv1.weight"] = (width, inputs, 1, 1)
            layout[f"{block}.conv2.weight"] = (width, width // sizes.groups, 3, 3)
            layout[f"{block}.conv3.weight"] = (outputs, width, 1, 1)
            for name, channels in (("bn1", width), ("bn2", width), ("bn3", outputs)):
                layout |= frozen_norm(f"{block}.{name}", channels)
            if i == 0:
                layout[f"{block}.downsample.0.weight"] = (outputs, inputs, 1, 1)
                layout |= frozen_norm(f"{block}.downsample.1", outputs)
            inputs = outputs
    return layout


def swin_layout(sizes: Swin) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the Swin Transformer of its authors, with a normalisation per output."""
    layout = linear("patch_embed.proj", sizes.width, 3, (4, 4))
    layout |= norm("patch_embed.norm", sizes.width)
    for stage, (depth, heads) in enumerate(zip(sizes.depths, sizes.heads, strict=True)):
        width = sizes.width * 2**stage
        for i in range(depth):
            block = f"layers.{stage}.blocks.{i}"
            layout |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
            table = ((2 * sizes.window - 1) ** 2, heads)
            layout[f"{block}.attn.relative_position_bias_table"] = table
            layout[f"{block}.attn.relative_position_index"] = (sizes.window**2,) * 2
            layout |= linear(f"{block}.attn.qkv", 3 * width, width)
            layout |= linear(f"{block}.attn.proj", width, width)
            layout |= linear(f"{block}.mlp.fc1", 4 * width, width)
            layout |= linear(f"{block}.mlp.fc2", width, 4 * width)
        if stage < 3:
            layout[f"layers.{stage}.downsample.reduction.weight"] = (2 * width, 4 * width)
            layout |= norm(f"layers.{stage}.downsample.norm", 4 * width)
        layout |= norm(f"norm{stage}", width)
    return layout


def linear(name, outputs, inputs=256, kernel=()) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def norm(name, channels=256) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def frozen_norm(name, channels) -> dict[str, tuple[int, ...]]:
    tensors = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{tensor}": (channels,) for tensor in tensors}


def mlp(name, outputs) -> dict[str, tuple[int, ...]]:
    layers = [linear(f"{name}.layers.{i}", 256 if i < 2 else outputs) for i in range(3)]
    return layers[0] | layers[1] | layers[2]


def deformable_attention(name) -> dict[str, tuple[int, ...]]:
    return (
        linear(f"{name}.sampling_offsets", 256)
        | linear(f"{name}.attention_weights", 128)
        | linear(f"{name}.value_proj", 256)
        | linear(f"{name}.output_proj", 256)
        | linear(f"{name}.output_proj_box", 256)
    )


def random_weights(layout: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Fill a layout: every tensor is drawn, statistics and zero-initialised layers included.

    Only the index of Swin's relative positions, which is computed from the window's size, is left
    out. Kernels and matrices sum to zero over their inputs, or what differs between positions or
    queries would be lost in the mean of the rectified features; the scales keep the spread of
    features, of sampling points (some cells), of boxes, scores and mask logits.
    """
    return {
        name: torch.from_numpy(_draw(name, shape, layout, seed).astype(np.float32))
        for name, shape in layout.items()
        if not name.endswith("relative_position_index")
    }


# Factors on weights that would otherwise keep the spread of their input, and ranges of biases.
GAINS = {
    "sampling_offsets": 0.5,
    "attention_weights": 1.0,
    "reference_points": 2.0,
    "time_attention_weights": 2.0,
    "class_embed": 2.0,
    "mask_head.lay2": 4.0,
}
BIASES = {"sampling_offsets": 4.0, "attention_weights": 1.0, "class_embed": 1.0}


def _draw(name, shape, layout, seed):
    # The decoder holds the box layers a second time.
    name = name.replace("transformer.decoder.bbox_embed", "bbox_embed")
    # A stream for each tensor: none depends on which others there are.
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    values = 2 * rng.random_sample(shape) - 1
    module, _, tensor = name.rpartition(".")
    if f"{module}.running_var" in layout:
        scale = {"weight": 0.4 if module.endswith("bn3") else 1.0, "running_var": 1.0}.get(tensor)
        return scale * (1 + 0.3 * values) if scale else 0.3 * values
    if tensor in ("level_embed", "relative_position_bias_table"):
        return values
    if module == "detr.query_embed":
        return 1.7 * values
    kind = next((kind for kind in GAINS if kind in module), None)
    if tensor.endswith("bias"):
        return BIASES.get(kind, 0.1) * values - 3 * (kind == "class_embed")
    if len(shape) == 1:
        return 1 + 0.3 * values
    values *= GAINS.get(kind, 1.2) * np.sqrt(3 / np.prod(shape[1:]))
    if shape[1] > 3:
        values -= values.mean(axis=1, keepdims=True)
    if name == "controller.layers.2.weight":
        # dx and dy are in pixels: two of the ten inputs of the first dynamic convolution.
        values[:80].reshape(8, 10, -1)[:, :2] /= 64
    return values


@dataclass(frozen=True)
class TrainingClip:
    """Frames and tracks of a clip.

    Attributes:
        frames: (T, H, W, 3), uint8 BGR.
        masks: (n, T, H, W), bool.
        labels: (n,), category ids from 1.
    """

    frames: np.ndarray
    masks: np.ndarray
    labels: np.ndarray

    def boxes(self) -> np.ndarray:
        """(n, T, 4), xyxy around the masks in pixels; zeros where a track is absent."""
        boxes = np.zeros((*self.masks.shape[:2], 4), np.float32)
        for track, frame in np.argwhere(self.masks.any(axis=(2, 3))):
            rows, columns = np.nonzero(self.masks[track, frame])
            boxes[track, frame] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        return boxes


def training_clips(num_frames: int = 5, seed: int = 0) -> list[TrainingClip]:
    """Two clips of different sizes with moving ellipses, 3 and 2 tracks.

    The first track of the first clip is absent in its second and third frame.
    """
    rng = np.random.RandomState(seed)
    clips = []
    for (height, width), num_tracks in (((96, 150), 3), ((80, 128), 2)):
        rows, columns = np.mgrid[:height, :width]
        blocks = rng.randint(0, 256, (height // 16, -(-width // 16), 3), dtype=np.uint8)
        background = blocks.repeat(16, axis=0).repeat(16, axis=1)[:, :width]
        frames = np.stack([background] * num_frames)
        masks = np.zeros((num_tracks, num_frames, height, width), bool)
        for track in range(num_tracks):
            center = (0.2 + 0.6 * rng.random_sample(2)) * (height, width)
            velocity = 6 * rng.random_sample(2) - 3
            radii = (0.1 + 0.2 * rng.random_sample(2)) * (height, width)
            colour = rng.randint(0, 256, 3)
            for t in range(num_frames):
                y, x = center + velocity * t
                inside = ((rows - y) / radii[0]) ** 2 + ((columns - x) / radii[1]) ** 2 < 1
                if len(clips) == 0 and track == 0 and t in (1, 2):
                    continue
                masks[track, t] = inside
                frames[t][inside] = colour
        clips.append(TrainingClip(frames, masks, rng.randint(1, 41, num_tracks)))
    return clips


def training_batch(model, clips=None):
    """Clips, by default ``training_clips``, as the model gets them."""
    samples = []
    for clip in clips or training_clips():
        boxes, frame_samples = clip.boxes(), []
        for t, frame in enumerate(clip.frames):
            size = frame.shape[:2]
            present = np.flatnonzero(clip.masks[:, t].any(axis=(1, 2)))
            objects = InstanceData(
                bboxes=torch.from_numpy(boxes[present, t]),
                labels=torch.from_numpy(clip.labels[present] - 1),
                masks=BitmapMasks(clip.masks[present, t].astype(np.uint8), *size),
                instances_ids=torch.from_numpy(present),
            )
            metainfo = dict(img_shape=size, ori_shape=size, frame_id=t)
            frame_samples.append(DetDataSample(metainfo=metainfo, gt_instances=objects))
        track_sample = TrackDataSample()
        track_sample.video_data_samples = frame_samples
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
        samples.append(dict(inputs=frames, data_samples=track_sample))
    return model.data_preprocessor(pseudo_collate(samples), training=True)


@dataclass(frozen=True)
class Case:
    """A comparison whose outputs of the original are stored in ``tests/data/seqformer_<name>.npz``.

    The layers are fewer, the Swin Transformer and the frames smaller than those of the released
    models, to keep the test short.

    Attributes:
        layout: Of the checkpoint.
        seed: Of the weights.
    """

    layout: Layout
    seed: int = 0

    def weights(self) -> dict[str, Tensor]:
        """The checkpoint's ``model``."""
        return random_weights(released_layout(self.layout), self.seed)


CASES = {
    "r50": Case(Layout(50, num_encoder_layers=3, num_decoder_layers=3, num_queries=50)),
    "swin": Case(
        Layout(
            Swin(width=48, depths=(2, 2, 2, 2), heads=(3, 6, 12, 24)),
            num_encoder_layers=2,
            num_decoder_layers=2,
            num_queries=50,
        )
    ),
}
SHORT_SIDE = 100


def random_clip(size: tuple[int, int] = (150, 231)) -> list[np.ndarray]:
    """Five raw frames (H, W, 3) uint8 BGR, which ``SHORT_SIDE`` resizes to 100 x 154."""
    return random_video(10, size)[::2]
