"""SeqFormer and MSSTS-VIS, whose keys are the same, and Deformable DETR as a training start.

SeqFormer's weights give what they gave in its authors' code, also in an MS-STS VIS with as many
layers, whose additions start as if they were not there.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.ytvis.categories import YTVIS19, YTVIS21

from ..code_base import CodeBase, Prepared, swin_renames, with_reordered_patches

WB = r"(weight|bias)"
RESNET = r"((?:conv|bn)1\.\w+|layer\d\.\d+\..+)"
MHA = r"((?:in|out)_proj.+)"
DEFORMABLE = rf"((?:sampling_offsets|attention_weights|value_proj|output_proj)\.{WB})"
THEIR_SWIN = r"detr\.backbone\.0\.body\."
THEIR_ENCODER = r"detr\.transformer\.encoder\.layers\.(\d+)\."
THEIR_DECODER = r"detr\.transformer\.decoder\.layers\.(\d+)\."
OUR_ENCODER, OUR_DECODER = r"encoder.layers.\1.", r"decoder.layers.\1."
OTHER_ENCODER, OTHER_DECODER = r"encoder\.layers\.(\d+)\.", r"decoder\.layers\.(\d+)\."


def prepare_seqformer(source: Mapping[str, Tensor], name: str) -> Prepared:
    """Give merged patches of Swin MMDetection's order; check that boxes have one set of layers."""
    for key in source:
        twin = key.replace("transformer.decoder.bbox_embed", "bbox_embed")
        if twin != key and not (twin in source and torch.equal(source[key], source[twin])):
            raise CheckpointError(
                f"{name}: {key} is not the same as {twin}, as it is in SeqFormer; a model that "
                "refines boxes with other layers than it predicts them with has no place in ours"
            )
    return with_reordered_patches(source, name)


def neck_biases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros for the biases that MMDetection's neck lacks in front of its normalisation."""
    convs = {k: x for k, x in state.items() if re.fullmatch(r"neck\..+\.conv\.weight", k)}
    biases = {key.replace("weight", "bias"): x.new_zeros(len(x)) for key, x in convs.items()}
    return {key: bias for key, bias in biases.items() if key not in state}


# What MS-STS VIS adds to SeqFormer; the attentions start as if they were not there.
_ADDITIONS = r"encoder\.layers\.\d+\.ms_sts\.|decoder\.layers\.\d+\.temporal\.|discriminator\."

SEQFORMER = CodeBase(
    title="SeqFormer or MSSTS-VIS",
    models=("MSSTSVIS",),
    required=(
        "detr.transformer.encoder.layers.0.self_attn.sampling_offsets.weight",
        "detr.transformer.decoder.layers.0.time_attention_weights.weight",
        "detr.query_embed.weight",
        "detr.class_embed.0.bias",
        "controller.layers.0.weight",
    ),
    renames=[
        (rf"detr\.backbone\.0\.body\.{RESNET}", r"backbone.\1"),
        *swin_renames(THEIR_SWIN, "backbone."),
        (rf"{THEIR_SWIN}(norm[1-3]\.{WB})", r"backbone.\1"),
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
    ],
    drops=[
        (rf"{THEIR_ENCODER}self_attn\.output_proj_box\..+", "their encoder does not use it"),
        (rf"{THEIR_DECODER}temp_attn_box\..+", "MSSTS-VIS does not use it"),
        (r"detr\.transformer\.decoder\.bbox_embed\..+", "the same as detr.bbox_embed"),
        (rf"{THEIR_SWIN}norm0\..+", "of the features at stride 4, which SeqFormer does not use"),
    ],
    is_start=lambda source: False,
    optional=_ADDITIONS,
    classes={"ytvis19": YTVIS19, "ytvis21": YTVIS21},
    class_bias=r"decoder\.class_branches\.0\.bias",
    other_logits=(0, 2),  # SeqFormer has a logit of no class at either end
    prepare=prepare_seqformer,
)
# A part of Deformable DETR can start two of ours: what the box queries of a frame go through is its
# decoder; instance queries start in the same way. A model with fewer layers gets the first ones.
DEFORMABLE_DETR = CodeBase(
    title="MMDetection's Deformable DETR",
    models=("MSSTSVIS",),
    required=(
        "encoder.layers.0.self_attn.sampling_offsets.weight",
        "decoder.layers.0.cross_attn.sampling_offsets.weight",
        "bbox_head.reg_branches.0.0.weight",
    ),
    renames=[
        (rf"backbone\.{RESNET}", r"backbone.\1"),
        (r"backbone\.((?:patch_embed|stages|norm[1-3])\..+)", r"backbone.\1"),
        (r"neck\.((?:convs|extra_convs)\..+)", r"neck.\1"),
        (r"level_embed", "encoder.level_embed"),
        (rf"{OTHER_ENCODER}self_attn\.{DEFORMABLE}", OUR_ENCODER + r"attention.\2"),
        (rf"{OTHER_ENCODER}norms\.0\.{WB}", OUR_ENCODER + r"norm1.\2"),
        (rf"{OTHER_ENCODER}norms\.1\.{WB}", OUR_ENCODER + r"norm2.\2"),
        (rf"{OTHER_ENCODER}(ffn\.layers\..+)", OUR_ENCODER + r"\2"),
        (r"query_embedding\.weight", "decoder.query_embedding.weight"),
        (rf"reference_points_fc\.{WB}", r"decoder.reference_points.\1"),
        (
            rf"{OTHER_DECODER}self_attn\.attn\.{MHA}",
            (OUR_DECODER + r"self_attention.\2", OUR_DECODER + r"box_self_attention.\2"),
        ),
        (
            rf"{OTHER_DECODER}cross_attn\.output_proj\.{WB}",
            (OUR_DECODER + r"cross_attention.output_proj.\2", OUR_DECODER + r"box_output_proj.\2"),
        ),
        (rf"{OTHER_DECODER}cross_attn\.{DEFORMABLE}", OUR_DECODER + r"cross_attention.\2"),
        (
            rf"{OTHER_DECODER}norms\.0\.{WB}",
            (OUR_DECODER + r"norm_self.\2", OUR_DECODER + r"box_norm_self.\2"),
        ),
        (
            rf"{OTHER_DECODER}norms\.1\.{WB}",
            (OUR_DECODER + r"norm_cross.\2", OUR_DECODER + r"box_norm_cross.\2"),
        ),
        (
            rf"{OTHER_DECODER}norms\.2\.{WB}",
            (OUR_DECODER + r"norm_ffn.\2", OUR_DECODER + r"box_norm_ffn.\2"),
        ),
        (rf"{OTHER_DECODER}(ffn\..+)", (OUR_DECODER + r"\2", OUR_DECODER + r"box_\2")),
        (rf"bbox_head\.reg_branches\.(\d+)\.0\.{WB}", r"decoder.box_branches.\1.layers.0.\2"),
        (rf"bbox_head\.reg_branches\.(\d+)\.2\.{WB}", r"decoder.box_branches.\1.layers.1.\2"),
        (rf"bbox_head\.reg_branches\.(\d+)\.4\.{WB}", r"decoder.box_branches.\1.layers.2.\2"),
    ],
    drops=[
        (r"bbox_head\.cls_branches\..+", "scores of COCO's classes"),
        (r"(memory|pos)_trans_(fc|norm)\..+", "of the two-stage form, which has no learnt queries"),
    ],
    is_start=lambda source: True,
    # What Deformable DETR has nothing, or other sizes, for.
    trained_anew=(
        r"mask_head\.|decoder\.(class_branches|query_embedding|reference_points)\.|"
        r"decoder\.layers\.\d+\.frame_weight\."
    ),
    optional=_ADDITIONS,
    complete=neck_biases,
)
