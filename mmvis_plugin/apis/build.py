"""A trained model from its config: where both are found, and how they are put together."""

import difflib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from mmvis_plugin.resources import resource_root
from mmvis_plugin.utils.checkpoint import CheckpointError, load_checkpoint_safely

CLASS_COUNTS = ("num_classes", "num_things_classes")  # what heads call the number of classes


def list_configs(with_weights: bool = False) -> list[str]:
    """Names of the configs that come with the package, e.g. ``maskprop_r18_shapes``.

    Args:
        with_weights: Only those whose own weights come with the package as well.
    """
    configs = _shipped_configs()
    return sorted(name for name, path in configs.items() if not with_weights or _has_weights(path))


def _has_weights(path: Path) -> bool:
    # A config that inherits the setting is a variant, and the weights are another model's.
    if "shipped_weights" not in path.read_text():
        return False
    weights = Config.fromfile(path).get("shipped_weights")
    return bool(weights) and Path(weights).is_file()


def build_video_segmentor(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    cfg_options: dict | None = None,
    require_weights: bool = True,
) -> nn.Module:
    """Build a model, load its weights and set it to evaluation.

    Args:
        config: Path of a config, the name of one that comes with the package (as
            :func:`list_configs` gives them), or a loaded one.
        checkpoint: File or URL of the weights. Without it, the weights the project ships for
            this config (its ``shipped_weights``).
        device: Where to run, e.g. ``cpu`` or ``cuda:0``. Without it, a GPU if there is one.
        cfg_options: Settings that replace those of the config.
        require_weights: If false, a model for which there are no weights keeps those it is
            initialised with, and classes without a name are numbered: enough to measure its speed.

    Returns:
        nn.Module: A video segmentor with two more attributes: ``cfg``, the config, and
        ``dataset_meta``, a dict whose ``classes`` are the class names.

    Raises:
        FileNotFoundError: If there is no such config, or if the config ships no weights and no
            checkpoint was given; the message says where weights come from.
        CheckpointError: If the checkpoint is missing, damaged, unsafe, or does not fit the model.
        ValueError: If the device is not there, the config's model is not a video segmentor, or
            neither the checkpoint nor the config names the classes.

    Examples:
        >>> model = build_video_segmentor("maskprop_r18_shapes")
    """
    cfg = _load_config(config, cfg_options)
    name = cfg.filename or "the config"
    device = _find_device(device)
    if checkpoint or require_weights or cfg.get("shipped_weights"):
        checkpoint = checkpoint or _shipped_weights(cfg, name)
    weights = load_checkpoint_safely(checkpoint) if checkpoint else {}

    init_default_scope(cfg.get("default_scope", "mmdet"))
    model = revert_sync_batchnorm(MODELS.build(_model_config(cfg)))
    if not all(hasattr(model, method) for method in ("start_video", "step", "finish")):
        raise ValueError(f"{name}: its model {type(model).__name__} is not a video segmentor")
    classes = _class_names(weights, cfg)
    if checkpoint:
        _load_weights(model, weights.get("state_dict", weights), checkpoint, name)
    else:
        _initialize(model)
        classes = classes or _numbered_classes(cfg)
    if not classes:
        raise ValueError(
            f"neither {checkpoint} nor {name} names the classes: set "
            "test_dataloader.dataset.metainfo.classes in the config"
        )
    model.dataset_meta = {"classes": classes}
    model.cfg = cfg
    return model.to(device).eval()


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


def _load_config(config: str | os.PathLike | Config, cfg_options: dict | None) -> Config:
    cfg = config.copy() if isinstance(config, Config) else Config.fromfile(_find_config(config))
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    return cfg


def _find_config(config: str | os.PathLike) -> Path:
    path = Path(config)
    if path.is_file():
        return path
    shipped = _shipped_configs()
    name = path.name.removesuffix(".py")
    if path.name == str(config) and name in shipped:
        return shipped[name]
    close = difflib.get_close_matches(name, shipped, n=3)
    raise FileNotFoundError(
        f"{config}: no such config file, and none of the {len(shipped)} configs that come with "
        f"the package has this name{'; close to it: ' + ', '.join(close) if close else ''}"
    )


def _shipped_configs() -> dict[str, Path]:
    paths = (resource_root() / "configs").glob("*/*.py")
    return {path.stem: path for path in paths}


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
    """The model's config, with the Runner's default, without what only training needs."""
    model = cfg.model.to_dict()
    if model.get("discriminator"):
        model["discriminator"] = None
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


def _initialize(model: nn.Module) -> None:
    """Random weights as the model's ``init_cfg`` say, without MMEngine's line for each tensor."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)


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


def _numbered_classes(cfg: Config) -> tuple[str, ...]:
    counts = [value for key, value in _items(cfg.model.to_dict()) if key in CLASS_COUNTS]
    return tuple(f"class {number}" for number in range(max(counts, default=1)))


def _items(config) -> Iterator[tuple]:
    """Every key and value in a nested config."""
    if isinstance(config, dict):
        yield from config.items()
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            yield from _items(value)
