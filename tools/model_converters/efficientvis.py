"""Turns MMDetection's QueryInst or Sparse R-CNN weights into a start for EfficientVIS."""

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mmvis_plugin.apis.conversion import (
    Conversion,
    build_model,
    errors_in_one_line,
    load_weights,
    reason_to_drop,
    renamed,
    save_weights,
    shapes_of,
)
from mmvis_plugin.checkpoint import CheckpointError

EXAMPLE = """example:
  python tools/model_converters/efficientvis.py \\
      https://download.openmmlab.com/mmdetection/v2.0/queryinst/\\
queryinst_r50_fpn_mstrain_480-800_3x_coco/\\
queryinst_r50_fpn_mstrain_480-800_3x_coco_20210901_103643-7837af86.pth \\
      work_dirs/efficientvis_r50_coco.pth --config configs/efficientvis/efficientvis_r50_ytvis19.py
  python tools/train.py configs/efficientvis/efficientvis_r50_ytvis19.py \\
      --cfg-options load_from=work_dirs/efficientvis_r50_coco.pth

Parts that the model shares with the detector take its weights; the rest stays initialised. The
report says which is which. Give the config that is going to be trained: its backbone must be the
checkpoint's."""

STAGE = r"tracklet_head.stages.\1."
RENAMED = [
    (r"(backbone|neck)\..+", r"\g<0>"),
    (r"roi_head\.bbox_head\.(\d+)\.(?!fc_cls)(.+)", STAGE + r"\2"),
    (r"roi_head\.mask_head\.(\d+)\.(convs\.\d+\.conv\..+|upsample\..+)", STAGE + r"mask_head.\2"),
    (r"rpn_head\.(init_proposal_(?:bboxes|features)\.weight)", r"tracklet_head.tracklets.\1"),
]
DROPPED = [
    (r"roi_head\.bbox_head\.\d+\.fc_cls\..+", "scores of COCO's classes, without background"),
    (r"roi_head\.mask_head\.\d+\.conv_logits\..+", "a mask for each of COCO's classes"),
    (
        r"roi_head\.mask_head\.\d+\.instance_interactive_conv\..+",
        "masks come from the same dynamic convolution as boxes here",
    ),
]
MASK_NORM = re.compile(r"(roi_head\.mask_head\.\d+\.convs\.\d+)\.bn\.(\w+)")
NORM_EPS = 1e-5  # of MMDetection's batch normalisation
# What every source has.
REQUIRED = (
    "backbone.conv1.weight",
    "neck.fpn_convs.0.conv.weight",
    "roi_head.bbox_head.0.instance_interactive_conv.dynamic_layer.weight",
)


@dataclass(kw_only=True)
class EfficientVISConversion(Conversion):
    """Weights in our layout and what became of the source's.

    Attributes:
        folded: Source keys of normalisations that went into the convolutions before them.
    """

    folded: list[str] = field(default_factory=list)


def main() -> None:
    args = parse_args()
    with errors_in_one_line():
        model = build_model(args.config, "EfficientVIS")
        conversion = convert(load_weights(args.src), shapes_of(model), args.src)
        save_weights(conversion.state, args.dst)
    print(report(conversion, args.dst))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("src", help="checkpoint of QueryInst or Sparse R-CNN: a file or address")
    parser.add_argument("dst", type=Path, help="file to write, for load_from")
    parser.add_argument(
        "--config", required=True, metavar="FILE.py", help="config of the EfficientVIS to train"
    )
    return parser.parse_args()


def convert(
    source: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], name: str | Path
) -> EfficientVISConversion:
    """Rename the weights of a detector and keep those that a model has a place for.

    The mask head's convolutions are normalised in QueryInst and are not here, where most RoIs show
    nothing and would shift the statistics: its batch normalisations are taken into them, which
    changes nothing at test time.

    Args:
        source: Weights by MMDetection's keys.
        shapes: Key -> shape of the model's weights.
        name: The file they come from, for messages.

    Returns:
        EfficientVISConversion: Weights by the model's keys.

    Raises:
        CheckpointError: The weights are of another detector, or of another backbone.
    """
    missing = [key for key in REQUIRED if key not in source]
    if missing:
        raise CheckpointError(
            f"{name} is not a checkpoint of MMDetection's QueryInst or Sparse R-CNN: it has no "
            f"{missing[0]}, but for example {next(iter(source), 'nothing')}"
        )
    result = EfficientVISConversion()
    folded, result.folded = fold_mask_norms(source)
    for key, tensor in {**source, **folded}.items():
        if key in result.folded:
            continue
        ours = renamed(key, RENAMED)
        if ours is None:
            result.dropped[key] = reason_to_drop(key, DROPPED, "not a part of EfficientVIS")
        else:
            result.state[ours], result.origins[ours] = tensor.clone(), key
    # What is left out or lacks is told; only the backbone and the FPN must be there.
    result.fit(shapes, may_differ=lambda ours: True, may_lack=lambda ours: True)
    check_backbone(result, name)
    return result


def fold_mask_norms(source: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Convolutions with the normalisations behind them taken in.

    Returns:
        Weights and biases of the convolutions by the source's keys, and the keys of the
        normalisations.
    """
    layers, keys = set(), []
    for key in source:
        match = MASK_NORM.fullmatch(key)
        if match:
            layers.add(match[1])
            keys.append(key)
    folded = {}
    for layer in sorted(layers):
        norm = {
            part: source[f"{layer}.bn.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        scale = norm["weight"] / torch.sqrt(norm["running_var"] + NORM_EPS)
        folded[f"{layer}.conv.weight"] = source[f"{layer}.conv.weight"] * scale[:, None, None, None]
        folded[f"{layer}.conv.bias"] = norm["bias"] - norm["running_mean"] * scale
    return folded, keys


def check_backbone(conversion: EfficientVISConversion, name: str | Path) -> None:
    """Raise ``CheckpointError`` unless the whole backbone and FPN were taken over."""
    of_backbone = re.compile(r"(backbone|neck)\..+")
    left = [key for key in (*conversion.dropped, *conversion.fresh) if of_backbone.fullmatch(key)]
    if left:
        raise CheckpointError(
            f"The backbone of {name} is not that of the config (see {left[0]}): give the config "
            "of the same depth"
        )


def report(conversion: EfficientVISConversion, path: Path) -> str:
    """What was taken over, what was left out, and what stays initialised, stages together."""
    lines = ["taken over from the detector:", *grouped(conversion.state)]
    lines += ["  normalisations of the mask heads, in their convolutions"] * bool(conversion.folded)
    lines += ["left out:"]
    for reason in dict.fromkeys(conversion.dropped.values()):
        lines += grouped(key for key, why in conversion.dropped.items() if why == reason)
        lines[-1] += f" ({reason})"
    lines += ["new, stays initialised:", *grouped(conversion.fresh)]
    return "\n".join([*lines, f"{len(conversion.state)} tensors written to {path}"])


def grouped(keys: Iterable[str]) -> list[str]:
    """One line for each module, with ``*`` for the number of the stage; backbone and FPN whole."""
    names = Counter()
    for key in keys:
        if key.startswith(("backbone.", "neck.")):
            names[key.split(".")[0]] += 1
        else:
            stage = re.sub(r"(stages|bbox_head|mask_head)\.\d+\.", r"\1.*.", key)
            names[stage.rsplit(".", 1)[0]] += 1
    return [f"  {name}: {count} tensors" for name, count in names.items()]


if __name__ == "__main__":
    main()
