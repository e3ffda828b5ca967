"""Trained models by name: what the ``metafile.yml`` of a config's folder says about weights."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmdet
import yaml
from mmdet.datasets import CocoDataset

from mmvis_plugin.checkpoint import cached_path, download_folder, is_url
from mmvis_plugin.config import ConfigError
from mmvis_plugin.files import resource_root
from mmvis_plugin.version import __version__
from mmvis_plugin.ytvis.categories import OVIS, SHAPES, YTVIS19, YTVIS21

# The class names of a dataset, by the name that the metafiles give it.
DATASETS = {
    "ShapesVIS": SHAPES,
    "YouTube-VIS 2019": YTVIS19,
    "YouTube-VIS 2021": YTVIS21,
    "OVIS": OVIS,
    "COCO": CocoDataset.METAINFO["classes"],
}


# What MMDetection's own metafiles, which are installed with it, leave out.
MMDETECTION = {"Source": "MMDetection", "License": "Apache-2.0"}


@dataclass(frozen=True, kw_only=True)
class Release:
    """A model in a ``metafile.yml``.

    Attributes:
        root: The folder that paths in the file start from: the one above ``configs/``.
        collection: The method's entry in the file.
        entry: The model's entry.
    """

    root: Path
    collection: dict[str, Any] = field(repr=False)
    entry: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """Its name, which is that of its config."""
        return self.entry["Name"]

    @property
    def config(self) -> Path:
        """Its config."""
        return self.root / self.entry["Config"]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where its weights can be downloaded; none if they come with the package."""
        listed = [self.entry.get("Weights"), *self.entry.get("Mirrors", [])]
        return tuple(filter(is_url, filter(None, listed)))

    @property
    def is_shipped(self) -> bool:
        """Whether its weights come with the package."""
        return bool(self.entry.get("Weights")) and not self.addresses

    @property
    def file(self) -> Path | None:
        """Where its weights are, or are kept once they are downloaded; None if there are none."""
        if not self.entry.get("Weights"):
            return None
        if self.is_shipped:
            return self.root / self.entry["Weights"]
        if "File" in self.entry:
            return download_folder() / self.entry["File"]
        return cached_path(self.addresses[0])

    @property
    def sha256(self) -> str:
        """Digits that the SHA-256 of the file begins with, all 64 if known; may be empty."""
        in_name = re.search(r"-([0-9a-f]{8,})\.\w+$", self.file.name)
        return self.entry.get("SHA256") or (in_name[1] if in_name else "")

    @property
    def code_base(self) -> str | None:
        """The code base whose layout the file has, see ``CODE_BASES``; None for our own layout."""
        return self.entry.get("Code Base")

    @property
    def model_file(self) -> Path | None:
        """The file in our layout: the file itself, or what it is converted to, beside it."""
        if self.file is None or not self.code_base:
            return self.file
        return self.file.with_name(f"{self.file.stem}.{self.name}-{__version__}.pth")

    @property
    def source(self) -> str:
        """Who has released the weights."""
        return self.entry.get("Source", "mmvis_plugin")

    @property
    def licence(self) -> str | None:
        """Licence of the weights; None if none is stated."""
        return self.entry.get("License")

    @property
    def dataset(self) -> str:
        """The dataset whose classes the model knows, such as ``YouTube-VIS 2019``."""
        data = self._metadata("Training Data", "")
        return data if isinstance(data, str) else data[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of these classes; empty for other datasets than those of :data:`DATASETS`."""
        return DATASETS.get(self.dataset, ())

    @property
    def knows_shapes_only(self) -> bool:
        """Whether it knows nothing but the painted shapes of ShapesVIS."""
        return self.dataset == "ShapesVIS"

    @property
    def delay(self) -> str:
        """How far the model looks ahead: ``none``, or for example ``6 frames``."""
        return str(self._metadata("Output Delay", "unknown"))

    @property
    def megabytes(self) -> float | None:
        """Size of the model's weights; None if it is not known."""
        if self.is_shipped:
            return self.file.stat().st_size / 1e6 if self.file.is_file() else None
        parameters = self._metadata("Parameters", None)
        return None if parameters is None else 4e-6 * parameters  # float32

    @property
    def ap(self) -> float | None:
        """Its published AP in percent, or ours on ShapesVIS; None if there is none."""
        return next((m["AP"] for m in map(_metrics, self._results()) if "AP" in m), None)

    @property
    def is_video_model(self) -> bool:
        """Whether it segments videos; the others are image models that a training starts from."""
        return not self._metadata("Image Model", False)

    def _results(self) -> list[dict]:
        return self.entry.get("Results") or []

    def _metadata(self, key: str, default: Any) -> Any:
        of_method = self.collection.get("Metadata") or {}
        return (self.entry.get("Metadata") or {}).get(key, of_method.get(key, default))


def _metrics(result: dict) -> dict:
    return result.get("Metrics") or {}


def list_models() -> list[Release]:
    """The video models for which there are trained weights, by name."""
    files = sorted((resource_root() / "configs").glob("*/metafile.yml"))
    releases = (release for file in files for release in read_metafile(file))
    found = (release for release in releases if release.file and release.is_video_model)
    return sorted(found, key=lambda release: release.name)


def find_release(config: str | os.PathLike | None) -> Release | None:
    """What a metafile says about the model of a config; see :func:`releases_beside`."""
    beside = releases_beside(config) if config else []
    return next((r for r in beside if r.config == Path(config).absolute()), None)


def releases_beside(config: str | os.PathLike) -> list[Release]:
    """The models of the ``metafile.yml`` in a config's folder, or else in the one above.

    Args:
        config: A config file, also one of MMDetection's.

    Raises:
        ConfigError: The metafile cannot be read.
    """
    files = (folder / "metafile.yml" for folder in Path(config).absolute().parents[:2])
    found = next(filter(Path.is_file, files), None)
    return read_metafile(found) if found else []


def read_metafile(path: Path) -> list[Release]:
    """The models of a ``metafile.yml`` in a folder of ``configs/``.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        collections = {entry["Name"]: entry for entry in content.get("Collections", [])}
        models = [(collections.get(m.get("In Collection"), {}), m) for m in content["Models"]]
        shared = MMDETECTION if path.is_relative_to(Path(mmdet.__file__).parent) else {}
        return [Release(root=path.parents[2], collection=c, entry=shared | m) for c, m in models]
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
