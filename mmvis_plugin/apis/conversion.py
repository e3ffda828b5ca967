"""What the converters of other projects' weights share (``tools/model_converters``)."""

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmvis_plugin.checkpoint import CheckpointError, load_checkpoint_safely
from mmvis_plugin.config import ConfigError, load_config
from mmvis_plugin.files import replacing

# Pairs of a regular expression of a key, and a template of another key or a reason.
Rules = Iterable[tuple[str, str]]


@dataclass(kw_only=True)
class Conversion:
    """Weights in our layout and what became of the source's.

    Attributes:
        state: Our key -> tensor.
        origins: Our key -> source key.
        dropped: Source key -> reason.
        fresh: Keys of the model that stay initialised; known once there is a model.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)

    def drop(self, ours: str, reason: str) -> None:
        """Take a weight out again."""
        del self.state[ours]
        self.dropped[self.origins.pop(ours)] = reason

    def fit(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        may_differ: Callable[[str], bool],
        may_lack: Callable[[str], bool],
    ) -> list[str]:
        """Compare the weights with those of a model and set ``fresh``.

        Args:
            shapes: The model's key -> shape.
            may_differ: Whether a weight is dropped if the model has none or another shape.
            may_lack: Whether the source need not have a weight.

        Returns:
            list[str]: What does not fit, a line each.
        """
        problems = []
        for ours, tensor in list(self.state.items()):
            shape = tuple(tensor.shape)
            if shape == shapes.get(ours):
                continue
            known = ours in shapes
            if not may_differ(ours):
                place = f"the model has {shapes[ours]}" if known else "the model has none"
                problems.append(f"{ours} is {shape}, {place}")
            elif known:
                self.drop(ours, f"another shape: {shape} there, {shapes[ours]} here")
            else:
                self.drop(ours, "the model has no such part")
        self.fresh = [ours for ours in shapes if ours not in self.state]
        return problems + [f"{ours} is missing" for ours in self.fresh if not may_lack(ours)]


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Within this context, a mistake of the user ends the program with one line."""
    try:
        yield
    except (CheckpointError, ConfigError, OSError) as error:
        sys.exit(f"error: {error}")


def grouped(heading: str, reasons: Mapping[str, str | None]) -> list[str]:
    """Lines that name keys, those that differ by numbers only together.

    Args:
        heading: What became of them.
        reasons: Key -> why; None where there is nothing to say.

    Returns:
        list[str]: A line for each part of a model, with ``*`` for the number and how many there
        are.
    """
    parts = Counter()
    for key, reason in reasons.items():
        pattern = re.sub(r"\.\d+(?=\.)", ".*", key)
        parts[pattern if reason is None else f"{pattern}: {reason}"] += 1
    return [f"  {heading}  {count} x {part}" for part, count in parts.items()]


def dataset_of(config: str | os.PathLike | None, known: Collection[str]) -> str | None:
    """The dataset that the name of a config ends in, if it is a known one."""
    name = Path(config).stem.rpartition("_")[2] if config else None
    return name if name in known else None


def load_weights(path: str | os.PathLike, safe_types: Sequence[type] = ()) -> dict[str, Tensor]:
    """The tensors of a checkpoint.

    Args:
        path: File, or URL where the project has one. Weights may be by themselves, or under
            ``state_dict`` or ``model``.
        safe_types: Further types that the file may hold beside tensors.

    Raises:
        CheckpointError: The file cannot be read, or what it holds is not a dict of tensors.
    """
    checkpoint = load_checkpoint_safely(path, safe_types)
    weights = checkpoint.get("model", checkpoint.get("state_dict", checkpoint))
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path} holds a {type(weights).__name__}, not a dict of weights")
    strange = next((key for key, value in weights.items() if not isinstance(value, Tensor)), None)
    if strange is not None:
        raise CheckpointError(
            f"{path} does not hold weights only: {strange!r} is a {type(weights[strange]).__name__}"
        )
    return weights


def renamed(key: str, rules: Rules) -> str | None:
    """Our key for one of the source's; None if no rule has one."""
    for pattern, template in rules:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(template)
    return None


def reason_to_drop(key: str, reasons: Rules, otherwise: str) -> str:
    """Why a source key has no place in our model."""
    return next((reason for pattern, reason in reasons if re.fullmatch(pattern, key)), otherwise)


def build_model(config: str | os.PathLike, *types: str) -> nn.Module:
    """The model of a config, for its names and shapes.

    Args:
        config: Path of a config.
        types: The types that its model may have.

    Raises:
        ConfigError: There is no such config, or its model is another one.
    """
    cfg = load_config(config)
    if cfg.model.type not in types:
        raise ConfigError(
            f"The model of {config} is of type {cfg.model.type}, not {' or '.join(types)}."
        )
    init_default_scope(cfg.get("default_scope", "mmdet"))
    return MODELS.build(cfg.model)


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Key -> shape of all weights and buffers of a model."""
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def save_weights(
    state: Mapping[str, Tensor], path: Path, classes: Sequence[str] | None = None
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        state: Weights.
        path: File to write.
        classes: Class names to store; None for a training start, whose classes are others.
    """
    meta = {"dataset_meta": {"classes": tuple(classes)}} if classes else {}
    with replacing(path) as temporary:
        torch.save({"meta": meta, "state_dict": dict(state)}, temporary)
