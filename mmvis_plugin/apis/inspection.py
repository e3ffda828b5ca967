"""Looking into a model: the pictures that its method's folder has."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from inspect import signature

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from mmvis_plugin.apis.inferencer import ModelRun
from mmvis_plugin.models.inspection import InspectedVideo, Inspection, ModelFrame
from mmvis_plugin.video import VideoReader


def inspect_model(model: nn.Module, reader: VideoReader, at: int, **options) -> Inspection:
    """What happens inside a model around a frame of a video.

    Args:
        model: A video segmentor.
        reader: The video, whose length is known; see :func:`open_whole_video`.
        at: The frame.
        options: Of the method's ``inspection.inspect``: ``count`` frames to show, ``instances``,
            ``channel``, ``score_thr``.

    Raises:
        ValueError: The method has no such pictures, or cannot make them of this frame with these
            options.
    """
    kind = type(model)
    name = f"{kind.__module__.rpartition('.')[0]}.inspection"
    if kind.__module__.count(".") < 3 or find_spec(name) is None:
        raise ValueError(f"there are no pictures of the inside of a {kind.__name__}")
    inspect = import_module(name).inspect
    for option in options:
        if option not in signature(inspect).parameters:
            raise ValueError(f"--{option.replace('_', '-')} does not apply to a {kind.__name__}")
    video = InspectedVideo(
        reader.name, reader.num_frames, lambda stop: model_frames(model, reader, stop)
    )
    return inspect(model, video, at, **options)


def open_whole_video(source, **part) -> VideoReader:
    """Open a video whose length is known, if need be by reading it once before.

    Args:
        source: See :class:`VideoReader`.
        part: ``start``, ``end`` and ``stride``, likewise.

    Raises:
        ValueError: It is a camera, which has no length.
        FileNotFoundError, VideoError: See :class:`VideoReader`.
    """
    reader = VideoReader(source, **part)
    if reader.is_camera:
        reader.close()
        raise ValueError(f"{reader.source} has no end: write its video to a file first")
    if reader.num_frames is None:  # Matroska and WebM have no field for it
        with reader:
            num_frames = sum(1 for _ in reader)
        reader = VideoReader(source, **part)
        reader.num_frames = num_frames
    return reader


def model_frames(model: nn.Module, reader: VideoReader, stop: int) -> Iterator[ModelFrame]:
    """The first frames of a video on their way into a model, one at a time.

    Args:
        model: The model.
        reader: The video.
        stop: Number of frames.

    Raises:
        ValueError: The video has fewer after all, because some cannot be decoded.
    """
    run = ModelRun(model)
    for number in range(stop):
        image = next(reader, None)
        if image is None:
            raise ValueError(f"{reader.source}: there are only {number} frames, not {stop}")
        inputs, metas = run.collate([run.prepare(image, number)])
        yield ModelFrame(image, inputs, metas[0])


def at_frame_size(
    maps: Tensor, padded_size: tuple[int, int], meta: dict, size: tuple[int, int]
) -> np.ndarray:
    """Maps that cover a padded frame, as they lie on the frame itself.

    Args:
        maps: (N, h, w) on any grid that covers the padded frame.
        padded_size: Height and width of the frame that the model got.
        meta: Its metainfo: ``img_shape``, what of it is not padding.
        size: Width and height wanted.

    Returns:
        np.ndarray: (N, H, W) float32.
    """
    if len(maps) == 0:
        return np.zeros((0, *size[::-1]), np.float32)
    height, width = meta["img_shape"][:2]
    settings = dict(mode="bilinear", align_corners=False)
    padded = F.interpolate(maps[:, None].float(), padded_size, **settings)
    return F.interpolate(padded[..., :height, :width], size[::-1], **settings)[:, 0].cpu().numpy()
