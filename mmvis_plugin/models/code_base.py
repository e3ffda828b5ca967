"""Other projects' weights: what a method's folder says about their layout (``released.py``).

The mechanism is :mod:`mmvis_plugin.apis.conversion`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

# Source key -> tensor, and source key -> what became of a tensor that went into others.
Prepared = tuple[dict[str, Tensor], dict[str, str]]


@dataclass(kw_only=True)
class Conversion:
    """Weights in our layout and what became of the source's.

    Attributes:
        is_start: Whether they are only to start a training from: another dataset's classes, or not
            all parts of our model.
        state: Our key -> tensor.
        origins: Our key -> source key.
        dropped: Source key -> reason.
        merged: Source key -> what became of it, where it went into other weights.
        zeros: Our keys that the source does without; zeros make the same model.
        fresh: Keys of the model that stay initialised; known once there is a model.
    """

    is_start: bool
    state: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    zeros: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)

    def drop(self, ours: str, reason: str) -> None:
        """Take a weight out again."""
        del self.state[ours]
        self.dropped[self.origins.pop(ours)] = reason


def _as_it_is(source: Mapping[str, Tensor], name: str) -> Prepared:
    return dict(source), {}


@dataclass(frozen=True, kw_only=True)
class CodeBase:
    r"""Layout of the checkpoints of one code base, and what our model takes from them.

    Attributes:
        title: What its checkpoints are of, for messages.
        models: Types of our models that take the weights.
        required: Source keys that every checkpoint has.
        renames: Pairs of a regular expression of a source key and a template of ours, or a tuple of
            templates, each of which gets the weight. In a template ``<\1+1>`` is calculated.
        drops: Pairs of a regular expression of a source key and the reason why it has no place.
        is_start: Whether a checkpoint is only a training start.
        trained_anew: Regular expression of our keys that a training start may lack, or have in
            another shape.
        optional: Regular expression of our keys that every checkpoint may lack.
        needs_config: Whether the model's shapes decide what is taken.
        classes: Dataset -> class names, of the datasets that models were released for.
        class_bias: Regular expression of our key of a bias with an entry per class.
        other_logits: How many more entries that bias may have.
        prepare: Changes weights before they are renamed: merges some into others, gives others
            another order. Gets the file's name for messages, raises ``CheckpointError``.
        complete: Weights that the source does without, by our keys, all zero.
        adapt: Changes a conversion for a certain model before it is compared with it; returns
            whether the source must fit as a whole, although it may be a training start.
    """

    title: str
    models: tuple[str, ...]
    required: tuple[str, ...]
    renames: Sequence[tuple[str, str | tuple[str, ...]]]
    drops: Sequence[tuple[str, str]] = ()
    is_start: Callable[[Mapping[str, Tensor]], bool]
    trained_anew: str = "(?!)"
    optional: str = "(?!)"
    needs_config: bool = False
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    class_bias: str = "(?!)"
    other_logits: tuple[int, ...] = (0,)
    prepare: Callable[[Mapping[str, Tensor], str], Prepared] = _as_it_is
    complete: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = lambda state: {}
    adapt: Callable[[Conversion, nn.Module], bool] = lambda conversion, model: False

    def our_keys(self, key: str) -> list[str]:
        """Our keys for one of the source's; empty if it has no place."""
        for pattern, templates in self.renames:
            if match := re.fullmatch(pattern, key):
                templates = (templates,) if isinstance(templates, str) else templates
                return [
                    re.sub(r"<(\d)([-+/])(\d)>", _calculate, match.expand(t)) for t in templates
                ]
        return []


def _calculate(term: re.Match) -> str:
    a, b = int(term[1]), int(term[3])
    return str({"+": a + b, "-": a - b, "/": a // max(b, 1)}[term[2]])


# --- ResNets of detectron2 --------------------------------------------------------------------


def detectron2_resnet_renames(theirs: str, ours: str) -> list[tuple[str, str]]:
    """How the keys of detectron2's ResNet become those of MMDetection's.

    Args:
        theirs: Regular expression of what comes before the keys there, without groups.
        ours: What comes before them here.
    """
    norm = "(weight|bias|running_mean|running_var|num_batches_tracked)"
    block, place = rf"{theirs}res(\d)\.(\d+)\.", rf"{ours}layer<\1-1>.\2."
    return [
        (rf"{theirs}stem\.conv1\.weight", f"{ours}conv1.weight"),
        (rf"{theirs}stem\.conv1\.norm\.{norm}", rf"{ours}bn1.\1"),
        (rf"{block}conv(\d)\.weight", rf"{place}conv\3.weight"),
        (rf"{block}conv(\d)\.norm\.{norm}", rf"{place}bn\3.\4"),
        (rf"{block}shortcut\.weight", f"{place}downsample.0.weight"),
        (rf"{block}shortcut\.norm\.{norm}", rf"{place}downsample.1.\3"),
    ]


# --- Swin Transformers ------------------------------------------------------------------------


def swin_renames(theirs: str, ours: str) -> list[tuple[str, str]]:
    """How the keys of the authors' Swin Transformer become those of MMDetection's.

    The normalisations of its outputs are left to the code base, which may not use all of them.

    Args:
        theirs: Regular expression of what comes before the keys there, without groups.
        ours: What comes before them here.
    """
    wb, block = "(weight|bias)", rf"{ours}stages.\1.\2"
    return [
        (rf"{theirs}patch_embed\.proj\.{wb}", rf"{ours}patch_embed.projection.\1"),
        (rf"{theirs}(patch_embed\.norm\.{wb})", rf"{ours}\1"),
        (rf"{theirs}layers\.(\d)\.(blocks\.\d+\.norm\d\.{wb})", block),
        (rf"{theirs}layers\.(\d)\.(blocks\.\d+\.attn)\.(.+)", rf"{block}.w_msa.\3"),
        (rf"{theirs}layers\.(\d)\.(blocks\.\d+)\.mlp\.fc1\.{wb}", rf"{block}.ffn.layers.0.0.\3"),
        (rf"{theirs}layers\.(\d)\.(blocks\.\d+)\.mlp\.fc2\.{wb}", rf"{block}.ffn.layers.1.\3"),
        (rf"{theirs}layers\.(\d)\.(downsample\..+)", block),
    ]


def with_reordered_patches(source: Mapping[str, Tensor], name: str) -> Prepared:
    """Give the merged patches of a Swin Transformer MMDetection's order; see :class:`CodeBase`."""
    merging = re.compile(r".*\blayers\.\d\.downsample\..+")
    return {k: reorder_patches(x) if merging.match(k) else x for k, x in source.items()}, {}


def reorder_patches(tensor: Tensor) -> Tensor:
    """Weights over 2 x 2 merged tokens of Swin in MMDetection's order.

    Swin's authors put the four tokens one after another, column by column, each with its channels;
    MMDetection puts the channels one after another, each with its four tokens row by row.

    Args:
        tensor: (..., 4C).

    Returns:
        (..., 4C).
    """
    tokens = tensor.unflatten(-1, (2, 2, -1))  # column, row, channel
    return tokens.movedim(-1, -3).transpose(-1, -2).flatten(-3)
