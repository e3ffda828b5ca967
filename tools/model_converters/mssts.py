"""Turns SeqFormer or MSSTS-VIS weights, or Deformable DETR weights to start from, into ours."""

import argparse
import re
from collections.abc import Iterable, Mapping
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
from mmvis_plugin.ytvis.categories import YTVIS19, YTVIS21

EXAMPLES = """examples:
  python tools/model_converters/mssts.py seqformer_r50.pth seqformer_r50_ytvis19.pth \\
      --config configs/mssts/seqformer_r50_ytvis19.py
  python tools/model_converters/mssts.py \\
      https://download.openmmlab.com/mmdetection/v3.0/deformable_detr/\\
deformable-detr-refine_r50_16xb2-50e_coco/\\
deformable-detr-refine_r50_16xb2-50e_coco_20221022_225303-844e0f93.pth \\
      work_dirs/start_r50.pth --config configs/mssts/mssts_r50_ytvis19.py

SeqFormer's weights give what they gave in its authors' code, also with the config of an MS-STS VIS
of as many layers, whose additions start as if they were not there. MMDetection's Deformable DETR is
for load_from: its decoder becomes that of the boxes and that of the instances. A model with fewer
layers than Deformable DETR gets the first ones."""

WB = r"(weight|bias)"
RESNET = r"((?:conv|bn)1\.\w+|layer\d\.\d+\..+)"
MHA = r"((?:in|out)_proj.+)"
DEFORMABLE = rf"((?:sampling_offsets|attention_weights|value_proj|output_proj)\.{WB})"
THEIR_SWIN = r"detr\.backbone\.0\.body\."
THEIR_ENCODER = r"detr\.transformer\.encoder\.layers\.(\d+)\."
THEIR_DECODER = r"detr\.transformer\.decoder\.layers\.(\d+)\."
OUR_ENCODER, OUR_DECODER = r"encoder.layers.\1.", r"decoder.layers.\1."

# Source key -> ours, as regular expressions.
SEQFORMER = [
    (rf"detr\.backbone\.0\.body\.{RESNET}", r"backbone.\1"),
    (rf"{THEIR_SWIN}patch_embed\.proj\.{WB}", r"backbone.patch_embed.projection.\1"),
    (rf"{THEIR_SWIN}(patch_embed\.norm|norm[1-3])\.{WB}", r"backbone.\1.\2"),
    (rf"{THEIR_SWIN}layers\.(\d)\.(blocks\.\d+\.norm\d\.{WB})", r"backbone.stages.\1.\2"),
    (
        rf"{THEIR_SWIN}layers\.(\d)\.(blocks\.\d+\.attn)\.(.+)",
        r"backbone.stages.\1.\2.w_msa.\3",
    ),
    (
        rf"{THEIR_SWIN}layers\.(\d)\.(blocks\.\d+)\.mlp\.fc1\.{WB}",
        r"backbone.stages.\1.\2.ffn.layers.0.0.\3",
    ),
    (
        rf"{THEIR_SWIN}layers\.(\d)\.(blocks\.\d+)\.mlp\.fc2\.{WB}",
        r"backbone.stages.\1.\2.ffn.layers.1.\3",
    ),
    (rf"{THEIR_SWIN}layers\.(\d)\.(downsample\..+)", r"backbone.stages.\1.\2"),
    (rf"detr\.input_proj\.([0-2])\.0\.{WB}", r"neck.convs.\1.conv.\2"),
    (rf"detr\.input_proj\.([0-2])\.1\.{WB}", r"neck.convs.\1.gn.\2"),
    (rf"detr\.input_proj\.3\.0\.{WB}", r"neck.extra_convs.0.conv.\1"),
    (rf"detr\.input_proj\.3\.1\.{WB}", r"neck.extra_convs.0.gn.\1"),
    (r"detr\.transformer\.level_embed", r"encoder.level_embed"),
    (rf"{THEIR_ENCODER}self_attn\.{DEFORMABLE}", OUR_ENCODER + r"attention.\2"),
    (rf"{THEIR_ENCODER}(norm[12]\.{WB})", OUR_ENCODER + r"\2"),
    (rf"{THEIR_ENCODER}linear1\.{WB}", OUR_ENCODER + r"ffn.layers.0.0.\2"),
    (rf"{THEIR_ENCODER}linear2\.{WB}", OUR_ENCODER + r"ffn.layers.1.\2"),
    (r"detr\.query_embed\.weight", r"decoder.query_embedding.weight"),
    (rf"detr\.transformer\.reference_points\.{WB}", r"decoder.reference_points.\1"),
    (rf"{THEIR_DECODER}self_attn\.{MHA}", OUR_DECODER + r"self_attention.\2"),
    (rf"{THEIR_DECODER}norm2\.{WB}", OUR_DECODER + r"norm_self.\2"),
    (rf"{THEIR_DECODER}self_attn_box\.{MHA}", OUR_DECODER + r"box_self_attention.\2"),
    (rf"{THEIR_DECODER}norm2_box\.{WB}", OUR_DECODER + r"box_norm_self.\2"),
    (rf"{THEIR_DECODER}cross_attn\.{DEFORMABLE}", OUR_DECODER + r"cross_attention.\2"),
    (rf"{THEIR_DECODER}cross_attn\.output_proj_box\.{WB}", OUR_DECODER + r"box_output_proj.\2"),
    (rf"{THEIR_DECODER}norm1_box\.{WB}", OUR_DECODER + r"box_norm_cross.\2"),
    (rf"{THEIR_DECODER}linear1_box\.{WB}", OUR_DECODER + r"box_ffn.layers.0.0.\2"),
    (rf"{THEIR_DECODER}linear2_box\.{WB}", OUR_DECODER + r"box_ffn.layers.1.\2"),
    (rf"{THEIR_DECODER}norm3_box\.{WB}", OUR_DECODER + r"box_norm_ffn.\2"),
    (rf"{THEIR_DECODER}time_attention_weights\.{WB}", OUR_DECODER + r"frame_weight.\2"),
    (rf"{THEIR_DECODER}norm1\.{WB}", OUR_DECODER + r"norm_cross.\2"),
    (rf"{THEIR_DECODER}linear1\.{WB}", OUR_DECODER + r"ffn.layers.0.0.\2"),
    (rf"{THEIR_DECODER}linear2\.{WB}", OUR_DECODER + r"ffn.layers.1.\2"),
    (rf"{THEIR_DECODER}norm3\.{WB}", OUR_DECODER + r"norm_ffn.\2"),
    (rf"detr\.class_embed\.(\d+)\.{WB}", r"decoder.class_branches.\1.\2"),
    (rf"detr\.bbox_embed\.(\d+)\.(layers\.\d\.{WB})", r"decoder.box_branches.\1.\2"),
    (rf"mask_head\.lay3\.{WB}", r"mask_head.fuse_convs.0.\1"),
    (rf"mask_head\.lay4\.{WB}", r"mask_head.fuse_convs.1.\1"),
    (rf"mask_head\.dcn\.{WB}", r"mask_head.fuse_convs.2.\1"),
    (rf"mask_head\.lay1\.{WB}", r"mask_head.out_convs.0.\1"),
    (rf"mask_head\.lay2\.{WB}", r"mask_head.out_convs.1.\1"),
    (rf"controller\.(layers\.\d\.{WB})", r"mask_head.controller.\1"),
]
DROPPED_OF_SEQFORMER = [
    (rf"{THEIR_ENCODER}self_attn\.output_proj_box\..+", "their encoder does not use it"),
    (rf"{THEIR_DECODER}temp_attn_box\..+", "MSSTS-VIS does not use it"),
    (r"detr\.transformer\.decoder\.bbox_embed\..+", "the same as detr.bbox_embed"),
    (rf"{THEIR_SWIN}norm0\..+", "of the features at stride 4, which SeqFormer does not use"),
]

OTHER_ENCODER, OTHER_DECODER = r"encoder\.layers\.(\d+)\.", r"decoder\.layers\.(\d+)\."
# A part of Deformable DETR can start two of ours: what the box queries of a frame go through is
# its decoder; instance queries start in the same way.
DEFORMABLE_DETR = [
    (rf"backbone\.{RESNET}", [r"backbone.\1"]),
    (r"backbone\.((?:patch_embed|stages|norm[1-3])\..+)", [r"backbone.\1"]),
    (r"neck\.((?:convs|extra_convs)\..+)", [r"neck.\1"]),
    (r"level_embed", ["encoder.level_embed"]),
    (rf"{OTHER_ENCODER}self_attn\.{DEFORMABLE}", [OUR_ENCODER + r"attention.\2"]),
    (rf"{OTHER_ENCODER}norms\.0\.{WB}", [OUR_ENCODER + r"norm1.\2"]),
    (rf"{OTHER_ENCODER}norms\.1\.{WB}", [OUR_ENCODER + r"norm2.\2"]),
    (rf"{OTHER_ENCODER}(ffn\.layers\..+)", [OUR_ENCODER + r"\2"]),
    (r"query_embedding\.weight", ["decoder.query_embedding.weight"]),
    (rf"reference_points_fc\.{WB}", [r"decoder.reference_points.\1"]),
    (
        rf"{OTHER_DECODER}self_attn\.attn\.{MHA}",
        [OUR_DECODER + r"self_attention.\2", OUR_DECODER + r"box_self_attention.\2"],
    ),
    (
        rf"{OTHER_DECODER}cross_attn\.output_proj\.{WB}",
        [OUR_DECODER + r"cross_attention.output_proj.\2", OUR_DECODER + r"box_output_proj.\2"],
    ),
    (rf"{OTHER_DECODER}cross_attn\.{DEFORMABLE}", [OUR_DECODER + r"cross_attention.\2"]),
    (
        rf"{OTHER_DECODER}norms\.0\.{WB}",
        [OUR_DECODER + r"norm_self.\2", OUR_DECODER + r"box_norm_self.\2"],
    ),
    (
        rf"{OTHER_DECODER}norms\.1\.{WB}",
        [OUR_DECODER + r"norm_cross.\2", OUR_DECODER + r"box_norm_cross.\2"],
    ),
    (
        rf"{OTHER_DECODER}norms\.2\.{WB}",
        [OUR_DECODER + r"norm_ffn.\2", OUR_DECODER + r"box_norm_ffn.\2"],
    ),
    (rf"{OTHER_DECODER}(ffn\..+)", [OUR_DECODER + r"\2", OUR_DECODER + r"box_\2"]),
    (rf"bbox_head\.reg_branches\.(\d+)\.0\.{WB}", [r"decoder.box_branches.\1.layers.0.\2"]),
    (rf"bbox_head\.reg_branches\.(\d+)\.2\.{WB}", [r"decoder.box_branches.\1.layers.1.\2"]),
    (rf"bbox_head\.reg_branches\.(\d+)\.4\.{WB}", [r"decoder.box_branches.\1.layers.2.\2"]),
]
DROPPED_OF_DEFORMABLE_DETR = [
    (r"bbox_head\.cls_branches\..+", "scores of COCO's classes"),
    (r"(memory|pos)_trans_(fc|norm)\..+", "of the two-stage form, which has no learnt queries"),
]
# What every source of a kind has.
REQUIRED_OF_SEQFORMER = (
    "detr.transformer.encoder.layers.0.self_attn.sampling_offsets.weight",
    "detr.transformer.decoder.layers.0.time_attention_weights.weight",
    "detr.query_embed.weight",
    "detr.class_embed.0.bias",
    "controller.layers.0.weight",
)
REQUIRED_OF_DEFORMABLE_DETR = (
    "encoder.layers.0.self_attn.sampling_offsets.weight",
    "decoder.layers.0.cross_attn.sampling_offsets.weight",
    "bbox_head.reg_branches.0.0.weight",
)
UNKNOWN = "not a part of the model"
CLASSES = {"ytvis19": YTVIS19, "ytvis21": YTVIS21}
# What MS-STS VIS adds to SeqFormer; the attentions start as if they were not there.
ADDITIONS = re.compile(r"encoder\.layers\.\d+\.ms_sts\.|decoder\.layers\.\d+\.temporal\.")
# What Deformable DETR has nothing, or other sizes, for.
TRAINED_ANEW = re.compile(
    r"mask_head\.|decoder\.(class_branches|query_embedding|reference_points)\.|"
    r"decoder\.layers\.\d+\.frame_weight\."
)


@dataclass(kw_only=True)
class MSSTSConversion(Conversion):
    """Weights in our layout and what became of the source's.

    Attributes:
        kind: What the source is.
        is_start: Whether it is only to start training from.
        zeros: Our keys that the source does without and that are zero: the same model.
    """

    kind: str
    is_start: bool
    zeros: list[str] = field(default_factory=list)


def main() -> None:
    args = parse_args()
    with errors_in_one_line():
        # Training state may hold the arguments of the training.
        conversion = convert(load_weights(args.src, [argparse.Namespace]), args.src)
        if args.config:
            fit(conversion, build_model(args.config, "MSSTSVIS"), args.src, args.config)
        # Both datasets have 40 classes: the name of the config tells which.
        dataset = args.classes or dataset_of(args.config, CLASSES)
        dataset = dataset_of_names(conversion, dataset)
        save_weights(conversion.state, args.dst, CLASSES.get(dataset))
    print(report(conversion, args.dst))
    if not conversion.is_start:
        print(f"  class names of {dataset}" if dataset else "  no class names: of another dataset")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "src",
        help="weights of SeqFormer, MSSTS-VIS or MMDetection's Deformable DETR: a file or address",
    )
    parser.add_argument("dst", type=Path, help="file to write")
    parser.add_argument(
        "--config", metavar="FILE.py", help="our config of the model, to check the result against"
    )
    parser.add_argument(
        "--classes",
        choices=tuple(CLASSES),
        help="class names to store with a SeqFormer model (default: those of --config, or ytvis19 "
        "if the model has as many classes)",
    )
    return parser.parse_args()


def dataset_of_names(conversion: MSSTSConversion, dataset: str | None) -> str | None:
    """The dataset whose class names belong to converted weights.

    Args:
        conversion: Converted weights.
        dataset: The one asked for; None for YouTube-VIS 2019 where the classes are as many.

    Returns:
        None for a training start, whose classes are others, and where nothing tells.

    Raises:
        CheckpointError: The model has another number of classes than the dataset asked for.
    """
    if conversion.is_start:
        return None
    names = CLASSES[dataset or "ytvis19"]
    logits = len(conversion.state["decoder.class_branches.0.bias"])
    if logits - len(names) in (0, 2):  # SeqFormer has a logit of no class at either end
        return dataset or "ytvis19"
    if dataset:
        raise CheckpointError(
            f"{dataset} has {len(names)} names, but the model {logits} class logits"
        )
    return None


def convert(source: Mapping[str, Tensor], name: str | Path) -> MSSTSConversion:
    """Rename the weights of a checkpoint.

    Args:
        source: Weights by SeqFormer's, MSSTS-VIS's or MMDetection's keys.
        name: The file they come from, for messages.

    Returns:
        MSSTSConversion: Weights by the keys of an ``MSSTSVIS`` with as many layers.

    Raises:
        CheckpointError: The weights are of another model.
    """
    if all(key in source for key in REQUIRED_OF_SEQFORMER):
        result = convert_seqformer(source, name)
    elif all(key in source for key in REQUIRED_OF_DEFORMABLE_DETR):
        result = convert_deformable_detr(source)
    else:
        raise CheckpointError(
            f"{name} is not a checkpoint of SeqFormer, MSSTS-VIS or MMDetection 3.x's Deformable "
            f"DETR: it has no {REQUIRED_OF_SEQFORMER[0]} and no {REQUIRED_OF_DEFORMABLE_DETR[0]}, "
            f"or not all that belongs to it, but for example {next(iter(source), 'nothing')}"
        )
    add_counters(result)
    return result


def convert_seqformer(source: Mapping[str, Tensor], name: str | Path) -> MSSTSConversion:
    """Rename the weights of SeqFormer or MSSTS-VIS, whose keys are the same."""
    result = MSSTSConversion(kind="SeqFormer", is_start=False)
    for key, tensor in source.items():
        ours = renamed(key, SEQFORMER)
        if ours is None:
            result.dropped[key] = reason_to_drop(key, DROPPED_OF_SEQFORMER, UNKNOWN)
            continue
        if ".downsample." in key and ".body.layers." in key:
            tensor = reorder_patches(tensor)
        result.state[ours], result.origins[ours] = tensor, key
    unknown = [key for key, reason in result.dropped.items() if reason == UNKNOWN]
    if unknown:
        raise CheckpointError(
            f"{name} is of another model than SeqFormer or MSSTS-VIS: {len(unknown)} of its "
            f"weights have no place in ours, for example {unknown[0]}"
        )
    for key in source:
        twin = key.replace("transformer.decoder.bbox_embed", "bbox_embed")
        if twin != key and not (twin in source and torch.equal(source[key], source[twin])):
            raise CheckpointError(
                f"{name}: {key} is not the same as {twin}, as it is in SeqFormer; a model that "
                "refines boxes with other layers than it predicts them with has no place in ours"
            )
    return result


def convert_deformable_detr(source: Mapping[str, Tensor]) -> MSSTSConversion:
    """Rename the weights of MMDetection's Deformable DETR."""
    result = MSSTSConversion(kind="Deformable DETR", is_start=True)
    _, num_decoder_layers = num_layers(source)
    for key, tensor in source.items():
        branch = re.match(r"bbox_head\.reg_branches\.(\d+)\.", key)
        rule = next((rule for rule in DEFORMABLE_DETR if re.fullmatch(rule[0], key)), None)
        if branch and int(branch[1]) >= num_decoder_layers:
            result.dropped[key] = "proposals of the two-stage form, which has no learnt queries"
        elif rule is None:
            result.dropped[key] = reason_to_drop(key, DROPPED_OF_DEFORMABLE_DETR, UNKNOWN)
        else:
            for template in rule[1]:
                ours = re.fullmatch(rule[0], key).expand(template)
                result.state[ours], result.origins[ours] = tensor, key
    # Its neck has no biases in front of the normalisation.
    for ours in [ours for ours in result.state if re.fullmatch(r"neck\..+\.conv\.weight", ours)]:
        bias = ours.replace("weight", "bias")
        if bias not in result.state:
            result.state[bias] = result.state[ours].new_zeros(len(result.state[ours]))
            result.zeros.append(bias)
    return result


def add_counters(result: MSSTSConversion) -> None:
    """Batch normalisations count batches; frozen ones do not."""
    for ours in [ours for ours in result.state if ours.endswith(".running_var")]:
        counter = ours.replace("running_var", "num_batches_tracked")
        if counter not in result.state:
            result.state[counter] = torch.zeros((), dtype=torch.long)
            result.zeros.append(counter)


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


def fit(conversion: MSSTSConversion, model: torch.nn.Module, name: str | Path, config: str) -> None:
    """Check converted weights against a model; drop what a training start has too much.

    Args:
        conversion: Changed in place.
        model: An ``MSSTSVIS``.
        name: The file of the weights, for messages.
        config: The model's config, likewise.

    Raises:
        CheckpointError: The weights are of another model.
    """
    shapes = {
        ours: shape
        for ours, shape in shapes_of(model).items()
        if not ours.startswith("discriminator.")
    }
    check_layers(conversion, shapes, name, config)

    def trained_anew(ours: str) -> bool:
        return conversion.is_start and bool(TRAINED_ANEW.match(ours))

    def may_differ(ours: str) -> bool:
        return trained_anew(ours) or (conversion.is_start and is_further_layer(ours, shapes))

    def may_lack(ours: str) -> bool:
        return trained_anew(ours) or bool(ADDITIONS.match(ours))

    problems = conversion.fit(shapes, may_differ, may_lack)
    if problems:
        raise CheckpointError(
            f"{name} is not of the model in {config} (backbone, widths, classes, queries): "
            f"{len(problems)} weights differ, for example {problems[0]}"
        )


def check_layers(conversion: MSSTSConversion, wanted: Iterable[str], name, config: str) -> None:
    """Raise ``CheckpointError`` if the model has layers the source has not, or lacks some of it."""
    theirs, ours = num_layers(conversion.state), num_layers(wanted)
    too_few = any(a < b for a, b in zip(theirs, ours, strict=True))
    if too_few or (theirs != ours and not conversion.is_start):
        raise CheckpointError(
            f"{name} has {theirs[0]} encoder and {theirs[1]} decoder layers, the model in {config} "
            f"{ours[0]} and {ours[1]}: set num_layers of encoder and decoder in the config"
        )


def num_layers(keys: Iterable[str]) -> tuple[int, int]:
    """Number of encoder and of decoder layers."""
    layers = [re.match(r"(en|de)coder\.layers\.(\d+)\.", key) for key in keys]
    return tuple(
        1 + max((int(layer[2]) for layer in layers if layer and layer[1] == coder), default=-1)
        for coder in ("en", "de")
    )


def is_further_layer(ours: str, wanted: Iterable[str]) -> bool:
    """Whether a key is of a layer behind the model's last one."""
    counts = dict(zip(("encoder", "decoder"), num_layers(wanted), strict=True))
    layer = re.match(r"(encoder|decoder)\.(?:layers|box_branches)\.(\d+)\.", ours)
    return layer is not None and int(layer[2]) >= counts[layer[1]]


def report(conversion: MSSTSConversion, dst: Path) -> str:
    """What became of every key, as text, the same parts of all layers together."""
    encoder, decoder = num_layers(conversion.state)
    use = "a training start from" if conversion.is_start else "the model of"
    lines = [
        f"{dst}: {use} {conversion.kind}, {encoder} encoder and {decoder} decoder layers, "
        f"{len(conversion.state)} tensors"
    ]
    lines += grouped("zero, the source does without", dict.fromkeys(conversion.zeros))
    lines += grouped("dropped", conversion.dropped)
    lines += grouped("not in the source, stays initialised", dict.fromkeys(conversion.fresh))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
