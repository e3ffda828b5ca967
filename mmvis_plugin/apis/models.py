"""A trained model from its config: where both are found, and how they are put together."""

import copy
import logging
import os
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from mmvis_plugin.checkpoint import (
    CheckpointError,
    category_ids,
    class_names,
    fill_model,
    load_checkpoint_safely,
)
from mmvis_plugin.config import (
    class_counts,
    load_config,
    naming_settings,
    pretrained_weights,
    remove_pretrained,
    require_class_names,
    set_options,
    shipped_configs,
)
from mmvis_plugin.config_options import registered
from mmvis_plugin.distributed import use_idle_cores
from mmvis_plugin.models.video_segmentor import leave_out_training_parts

from .released_weights import find_weights
from .releases import Release, find_release, list_models, releases_beside


def list_configs(with_weights: bool = False) -> list[str]:
    """Names of the configs that come with the package, e.g. ``maskprop_r18_shapes``.

    Args:
        with_weights: Only those whose own weights come with the package as well.
    """
    if with_weights:
        return [model.name for model in list_models() if model.is_shipped and model.file.is_file()]
    return sorted(shipped_configs())


def build_video_segmentor(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    cfg_options: dict | None = None,
    require_weights: bool = True,
    accept_licence: bool = False,
) -> nn.Module:
    """Build a model, load its weights and set it to evaluation.

    Args:
        config: Path of a config, the name of one that comes with the package (as
            :func:`list_configs` gives them), or a loaded one.
        checkpoint: File or URL of the weights. Without it, the weights that are released for this
            config (:func:`list_models`); they are downloaded once and, if they are another
            project's, converted.
        device: Where to run, e.g. ``cpu`` or ``cuda:0``. Without it, a GPU if there is one.
        cfg_options: Settings that replace those of the config.
        require_weights: If false, nothing is downloaded. A model whose weights do not come with
            the package keeps those it is initialised with, and classes without a name are
            numbered: enough to measure its speed.
        accept_licence: Agree to a licence that limits the use of released weights, or to the lack
            of one; see :func:`mmvis_plugin.apis.released_weights.find_weights`.

    Returns:
        nn.Module: A video segmentor with three more attributes: ``cfg``, the config; ``weights``,
        the file or URL of its weights, None if it has none; and ``dataset_meta``, a dict whose
        ``classes`` are the class names and whose ``category_ids``, if the checkpoint has them, are
        the ids that the training data has for them.

    Raises:
        FileNotFoundError: If there is no such config, or if no weights are released for the config
            and no checkpoint was given; the message says where weights come from.
        CheckpointError: If the checkpoint is missing, damaged, unsafe, or does not fit the model;
            if released weights cannot be downloaded or their licence was not agreed to.
        ValueError: If the device is not there, the config cannot be used or its model is not a
            video segmentor, or neither the checkpoint nor the config names the classes.

    Examples:
        >>> model = build_video_segmentor("maskprop_r18_shapes")
    """
    cfg = _load_config(config, cfg_options)
    name = cfg.filename or "the config"
    device = _find_device(device)
    if device.type == "cpu":
        use_idle_cores()
    release = find_release(cfg.filename)
    if not checkpoint and (require_weights or (release and release.is_shipped)):
        checkpoint = released_weights(cfg, accept_licence)
    weights = load_checkpoint_safely(checkpoint) if checkpoint else {}

    init_default_scope(cfg.get("default_scope", "mmdet"))
    with naming_settings(cfg, cfg_options):
        model = revert_sync_batchnorm(MODELS.build(_model_config(cfg)))
    if not all(hasattr(model, method) for method in ("start_video", "step", "finish")):
        raise ValueError(f"{name}: its model {type(model).__name__} is not a video segmentor")
    require_class_names(cfg, class_names(weights), checkpoint)
    classes = class_names(weights) or _configured_classes(cfg, release)
    if checkpoint:
        fill_model(model, weights, checkpoint, name)
    else:
        _initialize(model)
        classes = classes or _numbered_classes(cfg)
    if not classes:
        raise ValueError(
            f"neither {checkpoint} nor {name} names the classes: set "
            "test_dataloader.dataset.metainfo.classes in the config"
        )
    model.dataset_meta = {"classes": classes}
    if ids := _checked_category_ids(weights, classes, checkpoint):
        model.dataset_meta["category_ids"] = ids
    model.cfg, model.weights = cfg, checkpoint
    return model.to(device).eval()


def streaming_pipeline(cfg: Config) -> list[dict]:
    """The config's test pipeline without the transforms that load images and annotations.

    Args:
        cfg: Config with ``test_dataloader.dataset.pipeline``, or ``test_pipeline``, for videos or
            for images.

    Returns:
        list[dict]: Transforms for frames of a video that are in memory already.

    Raises:
        ValueError: If the config has no test pipeline.
    """
    pipeline = _test_dataset(cfg).get("pipeline") or cfg.get("test_pipeline")
    if not pipeline:
        raise ValueError(f"{cfg.filename or 'the config'} has no test pipeline")
    if _type_name(pipeline[-1]["type"]) == "PackDetInputs":
        return _on_frames(pipeline)
    return _without_loading(pipeline)


def _on_frames(pipeline: list[dict]) -> list[dict]:
    """A pipeline of images as one that does the same with each frame."""
    start = next(i for i, t in enumerate(pipeline) if _type_name(t["type"]).startswith("Load"))
    # A detector may want its images resized as floats.
    loading = dict(type="LoadImageFromNDArray", to_float32=pipeline[start].get("to_float32", False))
    transforms = [loading, *_without_loading(pipeline[start:-1])]
    broadcast = dict(type="TransformBroadcaster", transforms=transforms)
    return [broadcast, dict(type="PackTrackInputs")]


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
    if not isinstance(config, Config):
        return load_config(config, cfg_options)
    cfg = config.copy()
    set_options(cfg, cfg_options or {})
    return cfg


def _find_device(device: str | torch.device | None) -> torch.device:
    has_gpu = torch.cuda.is_available()
    try:
        found = torch.device(device or ("cuda:0" if has_gpu else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"{device!r} is not a device, use for example cpu or cuda:0") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {found} is not there; this PyTorch sees no such GPU, use cpu")
    try:
        torch.zeros(1, device=found).item()  # on `meta` there are no values
    except (NotImplementedError, RuntimeError) as error:
        raise ValueError(f"device {found} does not work with this PyTorch, use cpu") from error
    return found


def released_weights(cfg: Config, accept_licence: bool = False) -> Path:
    """The weights that are released for a config, in our layout.

    Args:
        cfg: A config that was read from a file.
        accept_licence: See :func:`mmvis_plugin.apis.released_weights.find_weights`.

    Raises:
        FileNotFoundError: There are none; the message says where weights come from.
        CheckpointError: See :func:`mmvis_plugin.apis.released_weights.find_weights`.
    """
    name = cfg.filename or "the config"
    release = find_release(cfg.filename)
    weights = find_weights(release, accept_licence) if release else None
    if weights is None:
        raise FileNotFoundError(f"no trained weights are released for {name}: {_advice(cfg, name)}")
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights}: the weights that come with {name} are missing; make them with "
            "`make weights`, or give a checkpoint"
        )
    return weights


def _advice(cfg: Config, name: str) -> str:
    """How to get weights that nobody has released."""
    advice = f"train it with `python tools/train.py {name}` and give the checkpoint"
    start = pretrained_weights(cfg)
    if start:
        advice += f" (training starts from {start.get('load_from') or next(iter(start.values()))})"
    beside = releases_beside(cfg.filename) if cfg.filename else []
    if others := [release.name for release in beside if release.file and release.is_video_model]:
        advice += f", or use another model of this method: {', '.join(others[:5])}"
    return advice


def _model_config(cfg: Config) -> ConfigDict:
    """The model's config, with the Runner's default, without what only training needs."""
    cfg = copy.deepcopy(cfg)
    remove_pretrained(cfg)
    leave_out_training_parts(cfg.model)
    if cfg.get("data_preprocessor"):
        cfg.model.setdefault("data_preprocessor", cfg.data_preprocessor)
    return cfg.model


def _initialize(model: nn.Module) -> None:
    """Random weights as the model's ``init_cfg`` say, without MMEngine's line for each tensor."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)


def _checked_category_ids(
    weights: dict, classes: tuple[str, ...], checkpoint: str | os.PathLike | None
) -> tuple[int, ...]:
    """Category ids of the training data, one for each class; none if they are not known."""
    ids = category_ids(weights)
    if ids and len(ids) != len(classes):
        raise CheckpointError(
            f"{checkpoint}: its meta has {len(ids)} category_ids for {len(classes)} classes "
            f"({', '.join(classes)}); correct them, or take category_ids out of its dataset_meta"
        )
    return ids


def _configured_classes(cfg: Config, release: Release | None) -> tuple[str, ...]:
    """The names in the config, else those of its dataset if it has as many classes."""
    dataset = _test_dataset(cfg)
    if names := (dataset.get("metainfo") or {}).get("classes"):
        return tuple(names)
    kinds = registered(dataset.get("type"))
    known = [getattr(kind, "METAINFO", {}).get("classes") for kind in kinds]
    names = (release and release.classes) or next(filter(None, known), ())
    # A config for other classes may forget to name them.
    return tuple(names) if {*class_counts(cfg).values()} <= {len(names)} else ()


def _numbered_classes(cfg: Config) -> tuple[str, ...]:
    count = max(class_counts(cfg).values(), default=1)
    return tuple(f"class {number}" for number in range(count))
