"""Turns the authors' STMask weights, or YOLACT++ weights to start training from, into ours."""

import argparse
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mmvis_plugin.apis.conversion import (
    Conversion,
    build_model,
    dataset_of,
    errors_in_one_line,
    grouped,
    load_weights,
    reason_to_drop,
    renamed,
    save_weights,
    shapes_of,
)
from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.config import ConfigError
from mmvis_plugin.ytvis.categories import OVIS, YTVIS19, YTVIS21

EXAMPLES = """examples:
  python tools/model_converters/stmask.py STMask_plus_resnet50_ada.pth stmask_r50_ada.pth \\
      --config configs/stmask/stmask_r50-dcn_fca-ada_ytvis19.py
  python tools/model_converters/stmask.py yolact_plus_resnet50_54_800000.pth yolact_r50.pth \\
      --config configs/stmask/stmask_r50-dcn_fca-ada_ytvis19.py

Released STMask models give what they gave in the authors' code. Models trained on COCO (YOLACT++,
and the authors' own with feature calibration) are for load_from: they lack temporal fusion, and
their classes are others. YOLACT++ R-50 has more deformable blocks than STMask; with --config they
become plain ones. With the config of an image model (type STMaskDetector) the file is laid out for
that one."""

HEAD = r"prediction_layers\.0"
CONV = r"(weight|bias)"
NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"


def branch_rules(theirs: str, ours: str) -> list[tuple[str, str]]:
    """How the weights of a branch of the head are renamed."""
    layer, preds = rf"{HEAD}\.{theirs}_layer\.(\d)", rf"detector.bbox_head.{ours}_preds.\1"
    tower = rf"detector.bbox_head.{ours}_convs.<\1/2>.conv.\2"
    return [
        (rf"{HEAD}\.{theirs}_extra\.([02])\.{CONV}", tower),
        (rf"{layer}\.{CONV}", rf"{preds}.\2"),
        # Layers that are calibrated for boxes:
        (rf"{layer}\.conv_offset\.weight", rf"{preds}.conv_offset.weight"),
        (rf"{layer}\.conv_adaption\.weight", rf"{preds}.conv_adapt.weight"),
        (rf"{layer}\.conv\.{CONV}", rf"{preds}.conv_pred.\2"),
    ]


# Source key -> ours, as regular expressions; <...> is calculated.
RENAMED = [
    (rf"backbone\.(conv1\.weight|bn1\.{NORM})", r"detector.backbone.\1"),
    (
        rf"backbone\.layers\.(\d)\.(\d+\.(?:conv\d\.weight|(?:bn|downsample\.)\d\.{NORM}))",
        r"detector.backbone.layer<\1+1>.\2",
    ),
    (
        rf"backbone\.layers\.(\d)\.(\d+)\.conv2\.conv_offset_mask\.{CONV}",
        r"detector.backbone.layer<\1+1>.\2.conv2.conv_offset.\3",
    ),
    # The authors count the backbone's levels from the coarsest one.
    (rf"fpn\.lat_layers\.([0-2])\.{CONV}", r"detector.neck.lateral_convs.<2-\1>.conv.\2"),
    (rf"fpn\.pred_layers\.([0-2])\.{CONV}", r"detector.neck.fpn_convs.<2-\1>.conv.\2"),
    (rf"fpn\.downsample_layers\.([01])\.{CONV}", r"detector.neck.fpn_convs.<3+\1>.conv.\2"),
    (rf"proto_net\.(\d+)\.{CONV}", r"detector.mask_head.protonet.\1.\2"),
    (rf"{HEAD}\.upfeature\.0\.{CONV}", r"detector.bbox_head.shared_conv.conv.\1"),
    (rf"{HEAD}\.centerness_layer\.(\d)\.{CONV}", r"detector.bbox_head.centerness_preds.\1.\2"),
    *branch_rules("bbox", "reg"),
    *branch_rules("conf", "cls"),
    *branch_rules("mask", "mask"),
    *branch_rules("track", "track"),
    (rf"TemporalNet\.conv([1-3])\.{CONV}", r"temporal_fusion.convs.<\1-1>.conv.\2"),
    (rf"TemporalNet\.fc\.{CONV}", r"temporal_fusion.fc_box.\1"),
    (rf"TemporalNet\.fc_coeff\.{CONV}", r"temporal_fusion.fc_coeff.\1"),
]
OPERATORS = {"+": operator.add, "-": operator.sub, "/": operator.floordiv}
DCN_BIAS = re.compile(r"(backbone\.layers\.\d\.\d+)\.conv2\.bias")
DROPPED = [
    (r"backbone\.layer\d\..+", "the same as backbone.layers, under its older name"),
    (r"fpn\.downsample_layers\.[2-9]\..+", "a level beyond P7"),
    (r"maskiou_net\..+", "mask re-scoring of YOLACT++; STMask scores with the centerness"),
    (r"semantic_seg_conv\..+", "semantic branch of YOLACT++; STMask trains without"),
    (r"class_existence_fc\..+", "class existence branch of YOLACT; STMask trains without"),
    (
        rf"{HEAD}\.(bbox|conf|mask)_layer\.(weight|bias)",
        "predicts for all anchors of YOLACT++ at once; STMask has a layer for each of its own",
    ),
]
UNKNOWN = "not a part of STMask"
CLASSES = {"ytvis19": YTVIS19, "ytvis21": YTVIS21, "ovis": OVIS}
# What every source has.
REQUIRED = (
    "backbone.conv1.weight",
    "backbone.layers.0.0.conv1.weight",
    "fpn.lat_layers.0.weight",
    "proto_net.0.weight",
    "prediction_layers.0.upfeature.0.weight",
)
# What training from images may lack, or have for other classes.
TRAINED_ANEW = re.compile(
    r"temporal_fusion\.|(detector\.)?bbox_head\.\w+_(convs|preds)\.|.+\.conv2\.conv_offset\."
)


@dataclass(kw_only=True)
class STMaskConversion(Conversion):
    """Weights in our layout and what became of the source's.

    Attributes:
        folded: Source keys of biases that went into the statistics of a normalisation.
        is_video_model: Whether the source is a whole STMask; otherwise it is a training start.
    """

    folded: list[str] = field(default_factory=list)
    is_video_model: bool = False


def main() -> None:
    args = parse_args()
    with errors_in_one_line():
        conversion = convert(load_weights(args.src), args.src)
        if args.config:
            fit(conversion, build_model(args.config, "STMask", "STMaskDetector"), args.config)
        dataset = args.classes or dataset_of(args.config, CLASSES)
        classes = class_names(conversion, dataset, Path(args.src).name)
        save_weights(conversion.state, args.dst, classes)
    print(report(conversion, args.dst))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("src", help="weights of STMask or of YOLACT++: a file or address")
    parser.add_argument("dst", type=Path, help="file to write")
    parser.add_argument(
        "--config", metavar="FILE.py", help="our config of that model, to check the result against"
    )
    parser.add_argument(
        "--classes",
        choices=tuple(CLASSES),
        help="class names to store with an STMask model (default: those of --config; without it "
        "the number of classes and the authors' file names, YTVIS2021, tell)",
    )
    return parser.parse_args()


def convert(source: Mapping[str, Tensor], name: str | Path) -> STMaskConversion:
    """Rename the weights of a checkpoint.

    The authors' deformable convolutions have a bias in front of a batch normalisation; ours have
    none, and the running mean takes it over: (x + b - mean) = x - (mean - b).

    Args:
        source: Weights by the authors' keys.
        name: The file they come from, for messages.

    Returns:
        STMaskConversion: Weights by the keys of an ``STMask``.

    Raises:
        CheckpointError: The weights are not of STMask or YOLACT++, or some of an STMask model have
            no place in ours.
    """
    missing = [key for key in REQUIRED if key not in source]
    if missing:
        raise CheckpointError(
            f"{name} is not a checkpoint of STMask or YOLACT++: it has no {missing[0]}, "
            f"but for example {next(iter(source), 'nothing')}"
        )
    result = STMaskConversion(is_video_model=any(key.startswith("TemporalNet.") for key in source))
    for key, tensor in source.items():
        if DCN_BIAS.fullmatch(key):
            result.folded.append(key)
        elif (ours := our_key(key)) is not None:
            result.state[ours], result.origins[ours] = tensor, key
        else:
            result.dropped[key] = reason_to_drop(key, DROPPED, UNKNOWN)
    for key in result.folded:
        fold_bias(result.state, source[key], DCN_BIAS.fullmatch(key)[1], name)
    unknown = [key for key, reason in result.dropped.items() if reason == UNKNOWN]
    if unknown and result.is_video_model:
        raise CheckpointError(
            f"{name} is of another model than those STMask's authors released: "
            f"{len(unknown)} of its weights have no place in ours ({', '.join(unknown[:3])} ...)"
        )
    return result


def our_key(key: str) -> str | None:
    """The key of an ``STMask`` for one of the authors'; None if it has none."""
    ours = renamed(key, RENAMED)
    return ours and re.sub(r"<(\d)([-+/])(\d)>", _calculate, ours)


def _calculate(term: re.Match) -> str:
    return str(OPERATORS[term[2]](int(term[1]), int(term[3])))


def fold_bias(state: dict[str, Tensor], bias: Tensor, block: str, name: str | Path) -> None:
    """Move the bias of a block's deformable convolution into the normalisation behind it."""
    key = our_key(f"{block}.bn2.running_mean")
    if key not in state:
        raise CheckpointError(f"{name} has {block}.conv2.bias, but no {block}.bn2.running_mean")
    state[key] = (state[key].double() - bias.double()).to(state[key].dtype)


def fit(conversion: STMaskConversion, model: torch.nn.Module, config: str) -> None:
    """Check converted weights against a model; drop what a training start has for other classes.

    An STMask has to fit as it is, and so has an image model where the config is of one.

    Args:
        conversion: Changed in place.
        model: An ``STMask``, or an ``STMaskDetector``, whose keys have no prefix.
        config: Its config, for messages.

    Raises:
        CheckpointError: The weights are of another model.
    """
    from mmvis_plugin.models.stmask import STMaskDetector

    if isinstance(model, STMaskDetector):
        for ours in [ours for ours in conversion.state if ours.startswith("temporal_fusion.")]:
            conversion.drop(ours, "temporal fusion, which an image model has not")
        conversion.state, conversion.origins = (
            {ours.removeprefix("detector."): value for ours, value in mapping.items()}
            for mapping in (conversion.state, conversion.origins)
        )

    # YOLACT++ has one layer for all anchors, and is a start for image models too.
    is_whole = conversion.is_video_model or (
        isinstance(model, STMaskDetector)
        and any(re.match(rf"{HEAD}\.conf_layer\.0\.", key) for key in conversion.origins.values())
    )

    def trained_anew(ours: str) -> bool:
        return not is_whole and bool(TRAINED_ANEW.match(ours))

    shapes = shapes_of(model)
    if not conversion.is_video_model:
        make_blocks_plain(conversion, shapes)
    problems = conversion.fit(shapes, may_differ=trained_anew, may_lack=trained_anew)
    if problems:
        raise CheckpointError(
            f"the checkpoint is not of the model in {config} (backbone, classes, calibration): "
            f"{len(problems)} weights differ, for example {problems[0]}"
        )


def make_blocks_plain(conversion: STMaskConversion, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Turn the deformable blocks of a training start that are plain in the model into plain ones.

    All blocks of the last three stages are deformable in YOLACT++ R-50, every second in STMask. The
    normalisation behind such a block expects inputs that were weakened by masks, about one half:
    the taps of the kernel are weighed with what the biases of the masks amount to.

    Args:
        conversion: Changed in place.
        shapes: The model's key -> shape.
    """
    state = conversion.state
    for bias in [key for key in state if key.endswith(".conv2.conv_offset.bias")]:
        offset, kernel = (
            bias.replace("conv_offset.bias", key) for key in ("conv_offset.weight", "weight")
        )
        if bias in shapes or not {offset, kernel} <= state.keys():
            continue
        masks = state[bias].chunk(3)[2].sigmoid()  # after the offsets in y and in x
        state[kernel] = state[kernel] * masks.view(state[kernel].shape[2:])
        for ours in (bias, offset):
            conversion.drop(ours, "a plain block here; its kernel takes over the masks' biases")


def class_names(
    conversion: STMaskConversion, dataset: str | None, name: str
) -> tuple[str, ...] | None:
    """Class names of an STMask model; None for a training start, whose classes are others.

    Raises:
        ConfigError: The model has another number of classes than the dataset.
    """
    if not conversion.is_video_model:
        return None
    layers = [
        key for key in conversion.state if re.search(r"cls_preds\.0\.(conv_pred\.)?bias", key)
    ]
    count = len(conversion.state[layers[0]]) - 1
    if dataset is None:
        fitting = [dataset for dataset, names in CLASSES.items() if len(names) == count]
        is_2021 = "2021" in name
        dataset = "ytvis21" if is_2021 and "ytvis21" in fitting else next(iter(fitting), None)
        if dataset is None:
            return None
    if len(CLASSES[dataset]) != count:
        raise ConfigError(f"{dataset} has {len(CLASSES[dataset])} names, the model {count} classes")
    return CLASSES[dataset]


def report(conversion: STMaskConversion, dst: Path) -> str:
    """What became of every key, as text, the same parts of all layers together."""
    kind = "an STMask model" if conversion.is_video_model else "a training start"
    lines = [f"{dst}: {kind}, {len(conversion.state)} tensors"]
    folded, fresh = dict.fromkeys(conversion.folded), dict.fromkeys(conversion.fresh)
    lines += grouped("folded into the batch normalisation", folded)
    lines += grouped("dropped", conversion.dropped)
    lines += grouped("not in the source, stays initialised", fresh)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
