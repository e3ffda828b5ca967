"""Versions of ShapesVIS: a config and weights name theirs, and data of another one is refused.

Figures of two versions cannot be compared. A config names its version as ``dataset_version`` in its
datasets' ``metainfo``; training writes it to the checkpoints with the other metainfo.
"""

import json
import os
from collections.abc import Mapping

from mmengine.config import Config

from mmvis_plugin.config import ConfigError, dataset_configs

# Options of make_shapes_vis.py by the end of a data root.
SHAPES_OPTIONS = {
    "_large": " --videos 1200",
    **{f"_{name}": f" --categories {name}" for name in ("ytvis19", "ytvis21", "ovis")},
}

LENGTH_OF_INFO = 4096  # characters; the dataset reads the rest


def named_version(dataset: Mapping) -> int | None:
    """The version that a dataset's config is for; None if it names none."""
    return (dataset.get("metainfo") or {}).get("dataset_version")


def how_to_make(folder: str, version: int | None, out: str | None = None) -> str:
    """The command that writes ShapesVIS.

    Args:
        folder: The config's data root, the end of which decides on number and classes of videos.
        version: None for the latest.
        out: Folder to write; ``folder`` by default.
    """
    options = next((text for end, text in SHAPES_OPTIONS.items() if folder.endswith(end)), "")
    option = "" if version is None else f"--version {version} "
    tool = "python tools/dataset_converters/make_shapes_vis.py"
    return f"{tool} {option}--out {out or folder}{options}"


def require_data_version(name: str, dataset: Mapping) -> None:
    """Make sure that data is of the version that the config is for.

    Args:
        name: Place of the dataset in the config.
        dataset: Config of a dataset whose annotation file is there.

    Raises:
        ConfigError: The JSON is another version of ShapesVIS; the message says what makes the
            right one.
    """
    wanted = named_version(dataset)
    if wanted is None:
        return
    path = os.path.join(dataset["data_root"], dataset["ann_file"])
    found = _version_of(path)
    if found in (None, wanted):
        return
    folder = _other_folder(dataset, wanted)
    raise ConfigError(
        f"{path} is version {found} of ShapesVIS, but {name} is for version {wanted}. To fix "
        f"this, run: {how_to_make(_root(dataset), wanted, folder)}, and add: --data-root {folder}"
    )


def require_weights_version(cfg: Config, trained: int, checkpoint: str | os.PathLike) -> None:
    """Make sure that weights are tested on the version that they were trained on.

    Args:
        cfg: Config.
        trained: Version that the weights are for.
        checkpoint: Their name, for the message.

    Raises:
        ConfigError: The config is for another version; the message says what makes the data.
    """
    for name, dataset in dataset_configs(cfg, ["test_dataloader"]):
        tested = named_version(dataset)
        if tested not in (None, trained):
            folder = _other_folder(dataset, trained)
            raise ConfigError(
                f"{checkpoint} was trained on version {trained} of ShapesVIS, but {name} is for "
                f"version {tested}. To test on version {trained}, run: "
                f"{how_to_make(_root(dataset), trained, folder)}, and add: --data-root {folder} "
                f"--cfg-options {name}.metainfo.dataset_version={trained}"
            )


def _version_of(path: str) -> int | None:
    """Version of ShapesVIS in a JSON, whose ``info`` comes first; None if it is something else."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            head = file.read(LENGTH_OF_INFO)
        info, _ = json.JSONDecoder().raw_decode(head, head.index("{", head.index('"info"')))
        if info["description"].startswith("ShapesVIS"):
            return int(info["version"].split(".")[0])
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError):
        pass  # the dataset says what is wrong with it, if anything is
    return None


def _root(dataset: Mapping) -> str:
    return dataset["data_root"].rstrip(os.sep)


def _other_folder(dataset: Mapping, version: int) -> str:
    return f"{_root(dataset)}_v{version}"
