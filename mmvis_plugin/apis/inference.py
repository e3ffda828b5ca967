"""A trained model from its config, and a video segmented frame by frame."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmvis_plugin.utils.checkpoint import CheckpointError, load_checkpoint_safely


def build_video_segmentor(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    cfg_options: dict | None = None,
) -> nn.Module:
    """Build a model, load its weights and set it to evaluation.

    Args:
        config: Path of a config or a loaded one.
        checkpoint: File or URL of the weights. Without it, the weights the project ships for
            this config (its ``shipped_weights``).
        device: Where to run, e.g. ``cpu`` or ``cuda:0``. Without it, a GPU if there is one.
        cfg_options: Settings that replace those of the config.

    Returns:
        nn.Module: A video segmentor with two more attributes: ``cfg``, the config, and
        ``dataset_meta``, a dict whose ``classes`` are the class names.

    Raises:
        FileNotFoundError: If the config does not exist, or if the config ships no weights and no
            checkpoint was given; the message says where weights come from.
        CheckpointError: If the checkpoint is missing, damaged, unsafe, or does not fit the model.
        ValueError: If the device is not there, the config's model is not a video segmentor, or
            neither the checkpoint nor the config names the classes.

    Examples:
        >>> model = build_video_segmentor("configs/maskprop/maskprop_r18_shapes.py")
    """
    cfg = _load_config(config, cfg_options)
    name = cfg.filename or "the config"
    device = _find_device(device)
    checkpoint = checkpoint or _shipped_weights(cfg, name)
    weights = load_checkpoint_safely(checkpoint)

    init_default_scope(cfg.get("default_scope", "mmdet"))
    model = revert_sync_batchnorm(MODELS.build(_model_config(cfg)))
    if not all(hasattr(model, method) for method in ("start_video", "step", "finish")):
        raise ValueError(f"{name}: its model {type(model).__name__} is not a video segmentor")
    _load_weights(model, weights.get("state_dict", weights), checkpoint, name)
    classes = _class_names(weights, cfg)
    if not classes:
        raise ValueError(
            f"neither {checkpoint} nor {name} names the classes: set "
            "test_dataloader.dataset.metainfo.classes in the config"
        )
    model.dataset_meta = {"classes": classes}
    model.cfg = cfg
    return model.to(device).eval()


def segment_video(model: nn.Module, frames: Iterable[np.ndarray]) -> "SegmentedVideo":
    """Segment the frames of one video as they come.

    Args:
        model: A model of :func:`build_video_segmentor`.
        frames: Frames in order, each of shape (H, W, 3), uint8, BGR, e.g. a ``VideoReader``.

    Returns:
        SegmentedVideo: An iterable over (frame, result), one for each frame and in order.

    Examples:
        >>> video = segment_video(model, VideoReader("street.mp4"))
        >>> for frame, data_sample in video:
        ...     print(data_sample.frame_id, data_sample.pred_track_instances.instances_id)
        >>> video.tracks
    """
    return SegmentedVideo(model, frames)


class SegmentedVideo:
    """A video being segmented: iterate over it once.

    Each result comes as soon as it is final. Of the frames, only those whose results are not
    final yet are held: their number is the method's look-ahead, whatever the video's length.

    A result's ``pred_track_instances`` carry the label and score of that frame. What a method
    decides about a track at the end of the video is in ``tracks``.

    Args:
        model: A model of :func:`build_video_segmentor`.
        frames: Frames in order, each of shape (H, W, 3), uint8, BGR.

    Attributes:
        tracks (InstanceData | None): After the last frame: instances_id, labels and scores of
            all tracks, where the method gives them.

    Yields:
        tuple[np.ndarray, DetDataSample]: A frame, unchanged, and its result; boxes and masks are
        at the frame's size.

    Raises:
        ValueError: If a frame is not a uint8 array of shape (H, W, 3).
        RuntimeError: If the model returns results that are not one per frame in order.
    """

    def __init__(self, model: nn.Module, frames: Iterable[np.ndarray]):
        self.tracks: InstanceData | None = None
        self._model = model
        self._frames = frames
        self._pipeline = Compose(streaming_pipeline(model.cfg))

    def __iter__(self) -> Iterator[tuple[np.ndarray, DetDataSample]]:
        state = self._model.start_video({})
        pending: deque[np.ndarray] = deque()
        num_final = 0
        for number, frame in enumerate(self._frames):
            _check_frame(frame, number)
            pending.append(frame)
            for sample in self._step(state, frame, number):
                yield _take_frame(pending, num_final, sample), sample
                num_final += 1
        samples, self.tracks = self._finish(state)
        for sample in samples:
            yield _take_frame(pending, num_final, sample), sample
            num_final += 1
        if pending:
            raise RuntimeError(
                f"{type(self._model).__name__} ended the video without results for its last "
                f"{len(pending)} frames"
            )

    @torch.no_grad()
    def _step(self, state, frame: np.ndarray, number: int) -> list[DetDataSample]:
        height_width = frame.shape[:2]
        packed = self._pipeline(
            dict(
                img=[frame],
                img_id=[number],
                img_path=[""],
                img_shape=[height_width],
                ori_shape=[height_width],
                frame_id=[number],
                video_id=[0],
                video_length=[1],
            )
        )
        batch = {key: [value] for key, value in packed.items()}
        batch = self._model.data_preprocessor(batch, training=False)
        metas = [sample.metainfo for sample in batch["data_samples"][0].video_data_samples]
        return self._model.step(state, batch["inputs"][0], metas)

    @torch.no_grad()
    def _finish(self, state) -> tuple[list[DetDataSample], InstanceData | None]:
        return self._model.finish(state)


def streaming_pipeline(cfg: Config) -> list[dict]:
    """The config's test pipeline without the transforms that load images and annotations.

    Args:
        cfg: Config with ``test_dataloader.dataset.pipeline``, or ``test_pipeline``.

    Returns:
        list[dict]: Transforms for frames that are in memory already.

    Raises:
        ValueError: If the config has no test pipeline.
    """
    pipeline = _test_dataset(cfg).get("pipeline") or cfg.get("test_pipeline")
    if not pipeline:
        raise ValueError(f"{cfg.filename or 'the config'} has no test pipeline")
    return _without_loading(pipeline)


def _without_loading(transforms: list[dict]) -> list[dict]:
    kept = [t for t in transforms if not _type_name(t["type"]).startswith("Load")]
    return [
        {**t, "transforms": _without_loading(t["transforms"])} if "transforms" in t else dict(t)
        for t in kept
    ]


def _type_name(registered_type: str | type) -> str:
    name = registered_type if isinstance(registered_type, str) else registered_type.__name__
    return name.rsplit(".", 1)[-1]


def _test_dataset(cfg: Config) -> dict:
    """The config of the dataset under any wrappers (RepeatDataset and the like)."""
    dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
    while "pipeline" not in dataset and isinstance(dataset.get("dataset"), dict):
        dataset = dataset["dataset"]
    return dataset


def _check_frame(frame: np.ndarray, number: int) -> None:
    is_array = isinstance(frame, np.ndarray)
    if not is_array or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        found = f"{frame.dtype} of shape {frame.shape}" if is_array else type(frame).__name__
        raise ValueError(f"frame {number} is {found}, not a uint8 array of shape (H, W, 3)")


def _take_frame(pending: deque, number: int, sample: DetDataSample) -> np.ndarray:
    """The oldest frame without a result, which the next result must belong to."""
    if not pending or sample.frame_id != number:
        raise RuntimeError(f"the model returned frame {sample.frame_id} where {number} was due")
    return pending.popleft()


def _load_config(config: str | os.PathLike | Config, cfg_options: dict | None) -> Config:
    if isinstance(config, Config):
        cfg = config.copy()
    elif Path(config).is_file():
        cfg = Config.fromfile(config)
    else:
        raise FileNotFoundError(f"{config}: no such config file")
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    return cfg


def _find_device(device: str | torch.device | None) -> torch.device:
    has_gpu = torch.cuda.is_available()
    try:
        device = torch.device(device or ("cuda:0" if has_gpu else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"{device!r} is not a device, use for example cpu or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device} is not there; this PyTorch sees no such GPU, use cpu")
    return device


def _shipped_weights(cfg: Config, name: str) -> str:
    shipped = cfg.get("shipped_weights")
    if shipped:
        if not Path(shipped).is_file():
            raise FileNotFoundError(
                f"{shipped}: the weights that {name} ships are missing; "
                "make them with `make weights`, or give a checkpoint"
            )
        return shipped
    advice = f"train it with `python tools/train.py {name}` and give the checkpoint"
    if cfg.get("weights_url"):
        advice = f"download {cfg.weights_url} and give the file as the checkpoint"
    elif start := _starting_weights(cfg):
        advice += f" (training starts from {start})"
    raise FileNotFoundError(f"{name} ships no trained weights: {advice}")


def _starting_weights(cfg: Config) -> str | None:
    """Where training starts from: the whole model's weights, or the backbone's."""
    if cfg.get("load_from"):
        return cfg.load_from
    return next((c["checkpoint"] for c in _pretrained_inits(cfg.model.to_dict())), None)


def _pretrained_inits(config) -> Iterator[dict]:
    """All ``init_cfg`` of type Pretrained in a model's config."""
    if isinstance(config, dict):
        if config.get("type") == "Pretrained" and "checkpoint" in config:
            yield config
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            yield from _pretrained_inits(value)


def _model_config(cfg: Config) -> ConfigDict:
    """The model's config, with the Runner's default and without weights to be downloaded."""
    model = cfg.model.to_dict()
    if cfg.get("data_preprocessor"):
        model.setdefault("data_preprocessor", cfg.data_preprocessor.to_dict())
    return ConfigDict(_without_pretrained(model))


def _without_pretrained(config):
    if isinstance(config, dict):
        return {
            key: _without_pretrained(value)
            for key, value in config.items()
            if not (isinstance(value, dict) and value.get("type") == "Pretrained")
        }
    if isinstance(config, list | tuple):
        return type(config)(_without_pretrained(value) for value in config)
    return config


def _load_weights(model: nn.Module, state: dict, checkpoint, name: str) -> None:
    try:
        result = model.load_state_dict(state, strict=False)
    except (AttributeError, RuntimeError) as error:  # no tensors, or tensors of other shapes
        raise CheckpointError(f"{checkpoint} does not fit {name}: {_in_one_line(error)}") from error
    if result.missing_keys:
        some = ", ".join(result.missing_keys[:3])
        raise CheckpointError(
            f"{checkpoint} does not fit {name}: it lacks {len(result.missing_keys)} of the "
            f"model's parameters ({some}, ...)"
        )


def _in_one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[1] if len(lines) > 1 else lines[0]


def _class_names(weights: dict, cfg: Config) -> tuple[str, ...]:
    meta = weights.get("meta") or {}
    dataset_meta = {key.lower(): v for key, v in (meta.get("dataset_meta") or {}).items()}
    candidates = (
        dataset_meta.get("classes"),
        meta.get("CLASSES"),
        (_test_dataset(cfg).get("metainfo") or {}).get("classes"),
    )
    return next((tuple(classes) for classes in candidates if classes), ())
