"""The weights that a training starts from: how they fit, and what follows for learning rates."""

import copy
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmengine.model import BaseModule
from mmengine.model.weight_init import PretrainedInit
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner.checkpoint import load_state_dict
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from mmvis_plugin.checkpoint import CheckpointError, is_url, load_checkpoint_safely

LEAST_SHARE = 0.5  # of a model's weights that load_from has, whatever their shapes


@dataclass
class Fit:
    """How the weights of a file fit a module of a model.

    Attributes:
        source: The file or address.
        place: Name of the module in the model; empty for the model itself.
        loaded: Weights of the module that the file has.
        reshaped: Weights of the module that the file has in another shape.
        missing: Weights of the module that the file has not.
    """

    source: str
    place: str
    loaded: list[str]
    reshaped: list[str]
    missing: list[str]

    @property
    def total(self) -> int:
        """Number of the module's weights."""
        return len(self.loaded) + len(self.reshaped) + len(self.missing)

    def __str__(self) -> str:
        place = f" of {self.place}" if self.place else ""
        text = f"Loaded {len(self.loaded)} of {self.total} weights{place} from {self.source}"
        if self.missing:
            names = (name.removeprefix(f"{self.place}.") for name in self.missing)
            parts = Counter(name.partition(".")[0] for name in names)
            lacking = ", ".join(f"{count} of {part}" for part, count in parts.items())
            text += f"; the file lacks {len(self.missing)}: {lacking}"
        if self.reshaped:
            text += f"; not loaded, since their shapes differ: {', '.join(self.reshaped)}"
        return text


def fits_of(model: nn.Module, load_from: str | None) -> list[Fit]:
    """How the weights that a config starts from fit its model.

    Args:
        model: The model, with each module's ``init_cfg``.
        load_from: Weights of the whole model, or None.

    Returns:
        list[Fit]: One for each ``init_cfg`` of type ``Pretrained`` and one for ``load_from``,
        except for names of model zoos and for modules that convert weights themselves.

    Raises:
        CheckpointError: A file fits nothing, and the message names the setting that takes it; or
            ``load_from`` has less than half of the model's weights.
    """
    fits = []
    for place, module, init_cfg in _pretrained_modules(model):
        source = str(init_cfg["checkpoint"])
        if "://" in source and not is_url(source):
            continue
        source = source if is_url(source) else os.path.normpath(source)
        fit = _fit(module, _weights(source, init_cfg.get("prefix")), source, place)
        if fit.loaded:
            fits.append(fit)
        elif type(module).init_weights is BaseModule.init_weights:
            raise CheckpointError(
                f"model.{place}.init_cfg: {source} fits nothing of {place}: none of its weights "
                "has a name and a shape as there"
            )
    if load_from and ("://" not in load_from or is_url(load_from)):
        weights = _weights(load_from)
        fit = _fit(model, weights, load_from, "")
        if not fit.loaded:
            raise CheckpointError(_no_fit(model, weights, load_from))
        if len(fit.loaded) + len(fit.reshaped) < LEAST_SHARE * fit.total:
            raise CheckpointError(
                f"load_from: {load_from} is not for a {type(model).__name__}: it has "
                f"{len(fit.loaded)} of the model's {fit.total} weights. To train with what fits, "
                "give it to the parts that it fits: "
                "model.PART.init_cfg=dict(type='Pretrained', checkpoint=...)"
            )
        fits.append(fit)
    return fits


def _pretrained_modules(module: nn.Module, place: str = "") -> Iterator[tuple]:
    """Modules with pretrained weights. MMEngine loads the outermost of nested ones last."""
    init_cfg = getattr(module, "init_cfg", None) or []
    for cfg in [init_cfg] if isinstance(init_cfg, dict) else init_cfg:
        if cfg.get("type") in ("Pretrained", "PretrainedInit", PretrainedInit):
            yield place, module, cfg
            return
    for name, child in module.named_children():
        yield from _pretrained_modules(child, f"{place}.{name}".lstrip("."))


def _weights(source: str, prefix: str | None = None) -> dict[str, Tensor]:
    checkpoint = load_checkpoint_safely(source)
    weights = dict(checkpoint.get("state_dict", checkpoint))
    if not prefix:
        consume_prefix_in_state_dict_if_present(weights, "module.")
    else:
        prefix = prefix.rstrip(".") + "."
        kept = {name: value for name, value in weights.items() if name.startswith(prefix)}
        weights = {name.removeprefix(prefix): value for name, value in kept.items()}
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}


def _fit(module: nn.Module, weights: dict[str, Tensor], source: str, place: str) -> Fit:
    """Load weights into a copy of a module without memory: modules may rename what they load."""
    memo = {id(p): nn.Parameter(p.to("meta"), False) for p in module.parameters()}
    memo |= {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    copied = copy.deepcopy(module, memo)
    try:
        copied.load_state_dict(weights, strict=False, assign=True)
        reshaped = []
    except RuntimeError as error:
        reshaped = re.findall(r"size mismatch for (\S+):", str(error))
    # PyTorch itself adds the counters of old batch norms to what it loads.
    own = {n: value for n, value in copied.state_dict().items() if "num_batches_tracked" not in n}
    loaded = [name for name, value in own.items() if not value.is_meta]
    missing = [name for name in own if name not in {*loaded, *reshaped}]
    full = [
        [f"{place}.{name}".lstrip(".") for name in names] for names in (loaded, reshaped, missing)
    ]
    return Fit(source, place, *full)


def _no_fit(model: nn.Module, weights: dict[str, Tensor], source: str) -> str:
    """What is wrong with ``load_from``, and the part of the model that its weights fit."""
    text = (
        f"load_from: {source} fits nothing of {type(model).__name__}: none of its {len(weights)} "
        "weights has the name and shape of one of the model's"
    )
    parts = ((name, module) for name, module in model.named_modules() if name.count(".") < 2)
    counts = {name: len(_fit(part, weights, source, name).loaded) for name, part in parts}
    best = max(counts, key=counts.get)
    if not counts[best]:
        return text
    setting = f"model.{best}.init_cfg"
    return (
        f"{text}. {counts[best]} of them fit {best}: use --cfg-options load_from=None "
        f"{setting}.type=Pretrained {setting}.checkpoint={source}"
    )


def fill_partly(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Load the weights of a checkpoint that a model has in the same shape.

    Args:
        model: The model, changed in place.
        checkpoint: Weights by themselves or under ``state_dict``.
    """
    weights = checkpoint.get("state_dict", checkpoint)
    consume_prefix_in_state_dict_if_present(weights, "module.")
    # Unlike PyTorch's function, MMEngine's passes over weights of another shape.
    load_state_dict(model, weights, strict=False, logger="silent")


def train_new_heads_fully(
    model: nn.Module, optimizers: OptimWrapper | OptimWrapperDict, fits: list[Fit]
) -> list[str]:
    """Give the full learning rate to the parameters that the weights have in another shape.

    A config that fine-tunes trained parts at a fraction of the rate means what is trained already.
    The heads for other classes than those of the weights are not: they start at random.

    Args:
        model: The model.
        optimizers: Its optimizers, before any schedule changes their rates; changed in place.
        fits: How the weights fit.

    Returns:
        list[str]: Names of the parameters whose rate was raised.
    """
    new = {name for fit in fits for name in fit.reshaped}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    raised = []
    for optimizer in _optimizers(optimizers):
        full = optimizer.defaults["lr"]
        for group in optimizer.param_groups:
            members = [names[id(parameter)] for parameter in group["params"]]
            if group["lr"] < full and members and new.issuperset(members):
                group["lr"] = full
                raised += members
    return raised


def _optimizers(wrapper: OptimWrapper | OptimWrapperDict) -> list:
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return [one.optimizer for one in wrappers]


def describe(model: nn.Module, optimizers: OptimWrapper | OptimWrapperDict) -> str:
    """The parameters of a model by how they train, in a few lines.

    Args:
        model: The model.
        optimizers: Its optimizers.
    """
    lines = []
    for optimizer in _optimizers(optimizers):
        sizes = Counter()
        for group in optimizer.param_groups:
            how = f"lr {group['lr']:g}, weight decay {group.get('weight_decay', 0):g}"
            sizes[how] += sum(p.numel() for p in group["params"] if p.requires_grad)
        parts = (f"{size / 1e6:.2f} million at {how}" for how, size in sizes.items() if size)
        lines.append(f"{type(optimizer).__name__}: {'; '.join(parts)}")
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    if frozen:
        lines.append(f"{frozen / 1e6:.2f} million are frozen")
    return f"Parameters of {type(model).__name__}: " + "; ".join(lines)
