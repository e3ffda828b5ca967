"""Weights and videos for comparing with the original SipMask network.

Both are a function of a seed alone, so that outputs of the original network, stored once, can be
compared with ours anywhere. Its backbone and neck are MMDetection's, whose arithmetic has not
changed; its head has the keys and shapes that :func:`head_layout` writes down.
"""

import zlib

import numpy as np
import torch
from stmask_original import conv, random_video
from torch import Tensor

# Height and width of the original frames, and what they are resized by.
CASES = {"landscape": ((181, 321), 1.0), "portrait": ((325, 187), 0.7)}
# The video leaves its first scene and comes back to it.
ORDER = (0, 1, 2, 3, 9, 10, 11, 12, 0, 1, 2, 3, 13, 3)


def head_layout(num_classes: int = 40) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the head in a released checkpoint."""
    layout = {}
    for tower, depth in (("cls", 2), ("reg", 3), ("track", 2)):
        for i in range(depth):
            name = f"bbox_head.{tower}_convs.{i}"
            layout[f"{name}.conv.weight"] = (256, 256, 3, 3)
            layout |= {f"{name}.gn.weight": (256,), f"{name}.gn.bias": (256,)}
    layout |= conv("bbox_head.fcos_cls", num_classes, 256)
    layout |= conv("bbox_head.fcos_reg", 4, 256)
    layout |= conv("bbox_head.fcos_centerness", 1, 256)
    layout |= {f"bbox_head.scales.{level}.scale": () for level in range(5)}
    layout["bbox_head.feat_align.conv_offset.weight"] = (72, 4, 1, 1)
    layout["bbox_head.feat_align.conv_adaption.weight"] = (256, 256, 3, 3)
    layout |= {f"bbox_head.feat_align.norm.{name}": (256,) for name in ("weight", "bias")}
    layout |= conv("bbox_head.sip_cof", 128, 256)
    layout |= conv("bbox_head.sip_mask_lat", 32, 512)
    layout |= conv("bbox_head.sip_mask_lat0", 512, 768, (1, 1))
    layout |= conv("bbox_head.sipmask_track", 512, 768, (1, 1))
    return layout


def random_weights(layout: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Fill a layout so that some objects are detected, aligned and told apart."""
    return {
        name: torch.tensor(np.array(_draw(name, shape), np.float32))
        if not name.endswith("num_batches_tracked")
        else torch.tensor(0)
        for name, shape in layout.items()
    }


def _draw(name, shape):
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    values = 2 * rng.random_sample(shape) - 1
    if name.endswith("running_var"):
        return 1 + 0.3 * values
    if name.endswith(".scale"):
        return 1 + 0.2 * values
    if len(shape) == 1:
        if "fcos_cls" in name:
            return 0.1 * values - 6
        if "fcos_reg" in name:
            return 2.5 + 0.1 * values
        norm = any(part in name for part in (".gn.", ".bn", "norm.", "downsample.1."))
        if norm and name.endswith("weight"):
            return (0.4 if ".bn3." in name else 1.0) * (1 + 0.3 * values)
        return 0.2 * values
    values *= np.sqrt(6 / np.prod(shape[1:]))
    if shape[1] > 4:
        values -= values.mean(axis=1, keepdims=True)
    if "sipmask_track" in name:
        values *= 0.3
    if "conv_offset" in name:
        values *= 0.3
    if "fcos_cls" in name:
        values *= 2
    return values


def case_frames(case: str) -> tuple[list[np.ndarray], dict]:
    """The frames of a case, and the metainfo of each."""
    size, scale = CASES[case]
    frames = random_video(14, size=size)
    resized = tuple(int(side * scale + 0.5) for side in size)
    meta = dict(ori_shape=size, img_shape=resized, scale_factor=(scale, scale))
    return [frames[index] for index in ORDER], meta


def as_input(frame: np.ndarray, meta: dict) -> Tensor:
    """(3, H, W) resized, normalised, padded to multiples of 32."""
    image = torch.from_numpy(frame).permute(2, 0, 1).float()
    if meta["img_shape"] != meta["ori_shape"]:
        image = torch.nn.functional.interpolate(image[None], meta["img_shape"], mode="nearest")[0]
    image = (image - torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]) / 60
    height, width = meta["img_shape"]
    return torch.nn.functional.pad(image, (0, -width % 32, 0, -height % 32))


def training_objects(size: tuple[int, int], seed: int):
    """Legacy boxes, labels and masks of four objects of a frame of this size."""
    rng = np.random.RandomState(seed)
    height, width = size
    masks = np.zeros((4, height, width), np.uint8)
    boxes = []
    for mask in masks:
        w, h = rng.randint(24, width // 2), rng.randint(24, height // 2)
        x, y = rng.randint(0, width - w), rng.randint(0, height - h)
        rows, columns = np.mgrid[:height, :width]
        mask[((rows - y - h / 2) / h * 2) ** 2 + ((columns - x - w / 2) / w * 2) ** 2 < 1] = 1
        boxes.append([x, y, x + w - 1, y + h - 1])
    return torch.tensor(boxes).float(), torch.tensor(rng.randint(0, 40, 4)), masks
