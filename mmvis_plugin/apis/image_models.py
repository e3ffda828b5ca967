"""Image instance segmenters as video models: any config of MMDetection's kind, and a linker."""

import os
from pathlib import Path

import mmdet
from mmengine.config import Config
from mmengine.hub import get_config

from mmvis_plugin.config import ConfigNotFoundError, load_config
from mmvis_plugin.config_options import ConfigError, close_to, registered, type_name

MMDET = "mmdet::"
MMDET_CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"

# What a linker adds to the config of a TrackByDetection.
LINKERS = {
    "iou-plus": dict(linker=dict(type="IoUPlusLinker")),
    "seq": dict(linker=dict(type="SeqLinker")),
    "sort": dict(linker=dict(type="SORTLinker")),
    "deepsort": dict(
        linker=dict(type="DeepSORTLinker"), appearance=dict(type="DetectorAppearance")
    ),
    "bytetrack": dict(linker=dict(type="ByteTrackLinker")),
    "ocsort": dict(linker=dict(type="OCSORTLinker")),
}


def with_linker(config: str | os.PathLike, linker: str) -> Config:
    """Make a video model of an image instance segmenter.

    Args:
        config: Config of the segmenter: a file, the name of one that comes with the package, or the
            name of one of MMDetection's: ``mmdet::rtmdet/rtmdet-ins_s_8xb32-300e_coco``. That of a
            ``TrackByDetection`` gets another linker.
        linker: Its name, a key of :data:`LINKERS`.

    Returns:
        Config: Of a ``TrackByDetection`` with the segmenter's preprocessing, test pipeline and
        class names. Its ``filename`` is the segmenter's.

    Raises:
        ValueError: There is no such linker.
        ConfigNotFoundError: There is no such config; the message names similar ones.
        ConfigError: It cannot be read, or its model segments videos already.
    """
    if linker not in LINKERS:
        raise ValueError(f"there is no linker {linker}; there are: {', '.join(LINKERS)}")
    cfg = read_image_config(config)
    model = cfg.model
    if type_name(model) == "TrackByDetection":
        model = model.detector
    elif any(hasattr(kind, "start_video") for kind in registered(model.get("type"))):
        raise ConfigError(
            f"{config} is a video model, which links its objects itself: leave the linker out"
        )
    if cfg.get("data_preprocessor"):
        model.setdefault("data_preprocessor", cfg.data_preprocessor)
    kept = {key: cfg[key] for key in ("test_dataloader", "test_pipeline") if key in cfg}
    video_model = dict(type="TrackByDetection", detector=model, **LINKERS[linker])
    return Config(
        dict(kept, default_scope=cfg.get("default_scope", "mmdet"), model=video_model),
        filename=cfg.filename,
    )


def read_image_config(config: str | os.PathLike) -> Config:
    """Read a config, also by a name of MMDetection's; see :func:`with_linker`."""
    if not str(config).startswith(MMDET):
        return load_config(config)
    name = str(config).removeprefix(MMDET).removesuffix(".py")
    if not (MMDET_CONFIGS / f"{name}.py").is_file():
        names = [path.relative_to(MMDET_CONFIGS) for path in MMDET_CONFIGS.glob("*/*.py")]
        known = [str(path.with_suffix("")) for path in names]
        raise ConfigNotFoundError(
            f"{config}: MMDetection has no such config{close_to(name, known)}"
        )
    return get_config(f"{MMDET}{name}.py")
