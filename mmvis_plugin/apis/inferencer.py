"""A video in, tracks out, frame by frame."""

import logging
import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from weakref import WeakSet

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmvis_plugin.models.layers.memory_format import to_channels_last
from mmvis_plugin.video import VideoReader
from mmvis_plugin.ytvis.categories import SHAPES

from .image_models import with_linker
from .model_run import ModelRun
from .models import build_video_segmentor
from .stream import VideoStream

GPU_BATCH = 8  # frames that go to a GPU together at most

logger = logging.getLogger(__name__)


class VISInferencer:
    """Segments videos of any length: files, images, cameras, arrays.

    Decoding and preprocessing run in a thread of their own beside the model, and so does what
    sinks do with the results (:mod:`mmvis_plugin.apis.sinks`). Memory is bounded by the method's
    clip or window, never by the video.

    Args:
        config_or_alias: Path of a config; the name of one that comes with the package, such as
            ``maskprop_r18_shapes`` (see :func:`list_configs`); a loaded config; or a model of
            :func:`build_video_segmentor`, which is used where it is.
        weights: File or URL of a checkpoint. Without it, the weights released for the config,
            which are downloaded once (see :func:`list_models`).
        device: Where to run, e.g. ``cpu`` or ``cuda:0``. Without it, a GPU if there is one.
        batch_size: Frames that go to the model in one call at most; those that are decoded
            already go together, none is waited for. By default 8 on a GPU and 1 on the CPU, where
            batches gain nothing. Results do not depend on it.
        autocast: Run the model in mixed precision (bfloat16, or float16 on a GPU without it).
        channels_last: Store frames and weights with channels innermost, which is faster for
            convolutions on some devices.
        cfg_options: Settings that replace those of the config.
        linker: Makes a video model of an image instance segmenter, whose config may also be one of
            MMDetection's (``mmdet::rtmdet/rtmdet-ins_s_8xb32-300e_coco``); see :func:`with_linker`.
        accept_licence: Agree to a licence that limits the use of released weights, or to the lack
            of one. Otherwise a terminal asks. Either is necessary only once.

    Attributes:
        model (nn.Module): The model.
        classes (tuple[str, ...]): Class names, indexed by label.
        category_ids (tuple[int, ...]): Likewise, the ids that the annotations of the training data
            have for them. Where the checkpoint does not tell they count from 1, as those of
            YouTube-VIS, OVIS and ShapesVIS do.
        shown_score (float): Score from which the model's objects should be shown, in [0, 1].

    Raises:
        FileNotFoundError, CheckpointError, ValueError: See :func:`build_video_segmentor`.
        ValueError: If ``batch_size`` is less than 1.

    Examples:
        >>> with VISInferencer("maskprop_r18_shapes") as inferencer:
        ...     for result in inferencer("street.mp4"):
        ...         print(result.index, [(t.id, t.class_name, t.score) for t in result.tracks])
    """

    def __init__(
        self,
        config_or_alias: str | os.PathLike | Config | nn.Module,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        *,
        batch_size: int | None = None,
        autocast: bool = False,
        channels_last: bool = False,
        cfg_options: dict | None = None,
        linker: str | None = None,
        accept_licence: bool = False,
    ):
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: it must be 1 or more")
        if linker:
            config_or_alias = with_linker(config_or_alias, linker)
        if isinstance(config_or_alias, nn.Module):
            self.model = config_or_alias
        else:
            self.model = build_video_segmentor(
                config_or_alias, weights, device, cfg_options, accept_licence=accept_licence
            )
        if channels_last:
            to_channels_last(self.model)
        self.device = self.model.data_preprocessor.device
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else GPU_BATCH)
        meta = self.model.dataset_meta
        self.classes: tuple[str, ...] = meta["classes"]
        self.category_ids: tuple[int, ...] = meta.get("category_ids") or tuple(
            range(1, len(self.classes) + 1)
        )
        self.shown_score: float = self.model.shown_score
        self._autocast = _autocast_dtype(self.device) if autocast else None
        self._channels_last = channels_last
        self._streams: WeakSet[VideoStream] = WeakSet()

    def __call__(
        self,
        source: str | os.PathLike | int | Iterable[np.ndarray],
        *,
        fps: Fraction | float | None = None,
        start: int = 0,
        end: int | None = None,
        stride: int = 1,
        classes: Sequence[str] | None = None,
    ) -> VideoStream:
        """Open a video, from which results can be drawn.

        A model that knows nothing but the painted shapes of ShapesVIS says so in the log if the
        video is of something else.

        Args:
            source, fps, start, end, stride: See :class:`VideoReader`.
            classes: Names of the classes to keep; None for all.

        Returns:
            VideoStream: An iterator over :class:`FrameResult`. Several may run at once.

        Raises:
            ValueError: If there is no class of a name in ``classes``, or an argument is out of
                range.
            FileNotFoundError, VideoError: If the source cannot be read, see :class:`VideoReader`.
        """
        labels = self._find_labels(classes)
        if {*self.classes} <= {*SHAPES} and not _is_shapes_vis(source):
            logger.warning(
                "This model knows nothing but the painted shapes of ShapesVIS (%s). For real "
                "videos, choose another one: python tools/list_models.py",
                ", ".join(self.classes),
            )
        reader = VideoReader(source, fps, start, end, stride)
        stream = VideoStream(
            reader, self.start_run(labels), self.batch_size, self.classes, self.category_ids, labels
        )
        self._streams.add(stream)
        return stream

    def start_run(self, labels: Tensor | None = None) -> ModelRun:
        """Begin a video of which the caller hands in the frames, in their own thread and time.

        Args:
            labels: (n,) classes that are wanted; None for all. Some models find others, too.
        """
        return ModelRun(self.model, self._autocast, self._channels_last, labels)

    def _find_labels(self, classes: Sequence[str] | None) -> Tensor | None:
        if classes is None:
            return None
        unknown = [name for name in classes if name not in self.classes]
        if unknown:
            raise ValueError(
                f"the model has no class {', '.join(unknown)}; it knows {', '.join(self.classes)}"
            )
        return torch.tensor([self.classes.index(name) for name in classes], dtype=torch.long)

    def close(self) -> None:
        """Close all videos that are still open."""
        for stream in list(self._streams):
            stream.close()

    def __enter__(self) -> "VISInferencer":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def _is_shapes_vis(source: str | os.PathLike | int | Iterable[np.ndarray]) -> bool:
    """Whether a video lies below a folder that holds a JSON of ShapesVIS."""
    if not isinstance(source, str | os.PathLike):
        return False
    folders = Path(source).absolute().parents[:4]
    return any(_names_shapes_vis(file) for folder in folders for file in folder.glob("*.json"))


def _names_shapes_vis(file: Path) -> bool:
    try:
        with open(file, "rb") as opened:
            return b"ShapesVIS" in opened.read(100)  # the JSON begins with its description
    except OSError:
        return False


def _autocast_dtype(device: torch.device) -> torch.dtype:
    # PyTorch calls bfloat16 supported where it is emulated, too, which is slow.
    half_only = device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    return torch.float16 if half_only else torch.bfloat16
