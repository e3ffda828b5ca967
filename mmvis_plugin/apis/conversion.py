"""Other projects' weights in our layout, checked against a config's model."""

import argparse
import os
import re
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmvis_plugin.checkpoint import CheckpointError, load_checkpoint_safely
from mmvis_plugin.config import ConfigError, load_config
from mmvis_plugin.files import replacing
from mmvis_plugin.models.code_base import CodeBase, Conversion

# By name, where their layout is described.
CODE_BASES = {
    "sipmask": "mmvis_plugin.models.sipmask.released:SIPMASK",
    "stmask": "mmvis_plugin.models.stmask.released:STMASK",
    "seqformer": "mmvis_plugin.models.mssts.released:SEQFORMER",
    "minvis": "mmvis_plugin.models.minvis.released:MINVIS",
    "deformable_detr": "mmvis_plugin.models.mssts.released:DEFORMABLE_DETR",
    "ifc": "mmvis_plugin.models.ifc.released:IFC",
    "detr": "mmvis_plugin.models.ifc.released:DETR",
    "vistr": "mmvis_plugin.models.vistr.released:VISTR",
    "queryinst": "mmvis_plugin.models.efficientvis.released:QUERYINST",
}
_BODY = re.compile(r"(detector\.|network\.)?(backbone|neck)\.")


def convert_weights(
    code_base: str,
    src: str | os.PathLike,
    dst: str | os.PathLike,
    config: str | os.PathLike | None = None,
    classes: str | None = None,
) -> str:
    """Convert a checkpoint of another code base and write it, whole or not at all.

    Args:
        code_base: One of :data:`CODE_BASES`.
        src: The checkpoint: a file, or an address where the project has one.
        dst: File to write.
        config: Our config of the model, to check the result against: a file or a name.
        classes: Dataset whose class names are stored with a whole model. By default the dataset
            that the config's name ends in, or one with as many classes.

    Returns:
        str: What became of every weight.

    Raises:
        CheckpointError: The file cannot be read, or is not of that code base or not of that model.
        ConfigError: There is no such code base or config, or the config has another model.
        OSError: ``dst`` cannot be written.
    """
    base = find_code_base(code_base)
    if config is None and base.needs_config:
        raise ConfigError(f"weights of {base.title} need the config of the model to be trained")
    model = None if config is None else build_model(config, base.models)
    conversion = convert(base, load_weights(src), src)
    if model is not None:
        fit(base, conversion, model, src, config)
    names = class_names(base, conversion, classes or _dataset_of(base, config), Path(src).name)
    # A training start has no names: its classes are others.
    meta = {"dataset_meta": {"classes": names}} if names else {}
    with replacing(dst) as temporary:
        torch.save({"meta": meta, "state_dict": conversion.state}, temporary)
    return report(base, conversion, dst, names)


def find_code_base(name: str) -> CodeBase:
    """The description of a code base's layout.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in CODE_BASES:
        raise ConfigError(f"unknown code base {name!r}: choose from {', '.join(CODE_BASES)}")
    module, _, attribute = CODE_BASES[name].partition(":")
    return getattr(import_module(module), attribute)


def load_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a checkpoint.

    Args:
        path: File or address. Weights may be by themselves, or under ``state_dict`` or ``model``.

    Raises:
        CheckpointError: The file cannot be read, or what it holds is not a dict of tensors.
    """
    # Files of training code may hold the arguments of the training.
    checkpoint = load_checkpoint_safely(path, [argparse.Namespace])
    weights = checkpoint.get("model", checkpoint.get("state_dict", checkpoint))
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path} holds a {type(weights).__name__}, not a dict of weights")
    strange = next((key for key, value in weights.items() if not isinstance(value, Tensor)), None)
    if strange is not None:
        raise CheckpointError(
            f"{path} does not hold weights only: {strange!r} is a {type(weights[strange]).__name__}"
        )
    return weights


def convert(base: CodeBase, source: Mapping[str, Tensor], name: str | os.PathLike) -> Conversion:
    """Rename the weights of a checkpoint.

    Args:
        base: Their layout.
        source: Weights by the code base's keys.
        name: The file they come from, for messages.

    Raises:
        CheckpointError: They are not of that code base, or some weights of a whole model have no
            place in ours.
    """
    missing = [key for key in base.required if key not in source]
    if missing:
        raise CheckpointError(
            f"{name} is not a checkpoint of {base.title}: it has no {missing[0]}, but for example "
            f"{next(iter(source), 'nothing')}"
        )
    result = Conversion(is_start=base.is_start(source))
    prepared, result.merged = base.prepare(source, str(name))
    unknown = []
    for key, tensor in prepared.items():
        places = base.our_keys(key)
        for ours in places:
            result.state[ours], result.origins[ours] = tensor, key
        if not places:
            reason = next((why for what, why in base.drops if re.fullmatch(what, key)), None)
            result.dropped[key] = reason or "not a part of the model"
            unknown += [key] * (reason is None)
    if unknown and not result.is_start:
        raise CheckpointError(
            f"{name} is of another model than {base.title}: {len(unknown)} of its weights have no "
            f"place in ours, for example {unknown[0]}"
        )
    # Batch normalisations count batches; frozen ones do not.
    counters = {k.replace("running_var", "num_batches_tracked") for k in result.state}
    zeros = {
        key: torch.zeros((), dtype=torch.long)
        for key in sorted(counters - result.state.keys())
        if key.endswith(".num_batches_tracked")
    }
    zeros |= base.complete(result.state)
    result.state |= zeros
    result.zeros = list(zeros)
    return result


def build_model(config: str | os.PathLike, types: tuple[str, ...]) -> nn.Module:
    """The model of a config, for its names and shapes.

    Raises:
        ConfigError: There is no such config, or its model is of none of the types.
    """
    cfg = load_config(config)
    if cfg.model.type not in types:
        raise ConfigError(
            f"The model of {config} is of type {cfg.model.type}, not {' or '.join(types)}."
        )
    init_default_scope(cfg.get("default_scope", "mmdet"))
    return MODELS.build(cfg.model)


def fit(
    base: CodeBase,
    conversion: Conversion,
    model: nn.Module,
    name: str | os.PathLike,
    config: str | os.PathLike,
) -> None:
    """Compare weights with those of a model; drop what a training start has too many of.

    Args:
        base: Their layout.
        conversion: Changed in place.
        model: The model.
        name: The file of the weights, for messages.
        config: The model's config, likewise.

    Raises:
        CheckpointError: The weights are of another model.
    """
    may_differ = not base.adapt(conversion, model) and conversion.is_start
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    problems = []
    for ours, tensor in list(conversion.state.items()):
        shape, wanted = tuple(tensor.shape), shapes.get(ours)
        if shape == wanted:
            continue
        anew = re.match(base.trained_anew, ours) or (wanted is None and not _BODY.match(ours))
        if not (may_differ and anew and ours in conversion.origins):
            place = f"the model has {wanted}" if wanted else "the model has none"
            problems.append(f"{ours} is {shape}, {place}")
        elif wanted:
            conversion.drop(ours, f"another shape: {shape} there, {wanted} here")
        else:
            conversion.drop(ours, "the model has no such part")
    conversion.fresh = [ours for ours in shapes if ours not in conversion.state]
    for ours in conversion.fresh:
        anew = may_differ and re.match(base.trained_anew, ours)
        if not (anew or re.match(base.optional, ours)):
            problems.append(f"{ours} is missing")
    if problems:
        raise CheckpointError(
            f"{name} is not of the model in {config} (backbone, layers, widths, classes, queries): "
            f"{len(problems)} weights differ, for example {problems[0]}"
        )


def class_names(
    base: CodeBase, conversion: Conversion, dataset: str | None, name: str
) -> tuple[str, ...] | None:
    """Class names of converted weights; None for a training start and where nothing tells.

    Args:
        base: Their layout.
        conversion: The weights.
        dataset: One of ``base.classes``; None for one with as many classes as the model has.
        name: The file's name: authors mark YouTube-VIS 2021, which has 40 classes as 2019 has.

    Raises:
        ConfigError: The dataset is unknown, or the model has another number of classes.
    """
    if conversion.is_start:
        return None
    if dataset is not None and dataset not in base.classes:
        raise ConfigError(f"no class names of {dataset!r}: choose from {', '.join(base.classes)}")
    bias = next(key for key in conversion.state if re.fullmatch(base.class_bias, key))
    logits = len(conversion.state[bias])
    fitting = [d for d, names in base.classes.items() if logits - len(names) in base.other_logits]
    if dataset is None:
        fitting.sort(key=lambda d: (d == "ytvis21") != ("2021" in name))
        return base.classes[fitting[0]] if fitting else None
    if dataset not in fitting:
        raise ConfigError(
            f"{dataset} has {len(base.classes[dataset])} names, but the model has "
            f"{logits - min(base.other_logits)} classes"
        )
    return base.classes[dataset]


def _dataset_of(base: CodeBase, config: str | os.PathLike | None) -> str | None:
    """The dataset that the name of a config ends in, if its class names are known."""
    name = Path(config).stem.rpartition("_")[2] if config else None
    return name if name in base.classes else None


def report(
    base: CodeBase, conversion: Conversion, dst: str | os.PathLike, names: tuple[str, ...] | None
) -> str:
    """What became of every weight, as text, the same parts of all layers together."""
    use = "a training start from" if conversion.is_start else "the model of"
    lines = [f"{dst}: {use} {base.title}, {len(conversion.state)} tensors"]
    if conversion.is_start:
        modules = [re.sub(rf"({_BODY.pattern[:-2]})\..+", r"\1", key) for key in conversion.state]
        lines += _grouped("taken over", ((key.rpartition(".")[0] or key, "") for key in modules))
    lines += _grouped("merged", conversion.merged.items())
    lines += _grouped("zero, the source does without", ((key, "") for key in conversion.zeros))
    lines += _grouped("dropped", conversion.dropped.items())
    fresh = ((key, "") for key in conversion.fresh)
    lines += _grouped("not in the source, stays initialised", fresh)
    if not conversion.is_start:
        lines.append(
            f"  {len(names)} class names, from {names[0]}" if names else "  no class names"
        )
    return "\n".join(lines)


def _grouped(heading: str, reasons) -> list[str]:
    """A line for each part of a model, with ``*`` for numbers of layers, and how many there are."""
    parts = Counter()
    for key, reason in reasons:
        pattern = re.sub(r"\.\d+(?=\.|$)", ".*", key)
        parts[f"{pattern}: {reason}" if reason else pattern] += 1
    return [f"  {heading}  {count} x {part}" for part, count in parts.items()]
