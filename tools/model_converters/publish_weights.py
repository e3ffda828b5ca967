"""Turn a training checkpoint into small weights to ship, with a record of how they were made."""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from command_line import add_option, amount, existing, make_parser, run

if TYPE_CHECKING:
    import torch

EXAMPLE = """example:
  python tools/model_converters/publish_weights.py work_dirs/maskprop/iter_3000.pth \\
      weights/maskprop_r18_shapes.pth --seconds 3600 --metrics work_dirs/maskprop/test \\
      --command 'tools/train.py configs/maskprop/maskprop_r18_shapes.py'"""


def main() -> None:
    args = parse_args()
    import torch

    metrics = read_metrics(args.metrics)
    record = publish(
        args.src,
        args.dst,
        getattr(torch, args.dtype),
        max_bytes=int(args.max_mb * 1e6),
        provenance={"command": args.command, "seconds": args.seconds, "metrics": metrics},
    )
    print(f"{args.dst}: {record['bytes'] / 1e6:.2f} MB, {json.dumps(metrics)}")


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument("src", type=existing, help="checkpoint of tools/train.py")
    parser.add_argument("dst", type=Path, help="weights to write; the record is NAME.json beside")
    parser.add_argument(
        "--command", required=True, metavar="TEXT", help="command that trained the checkpoint"
    )
    parser.add_argument(
        "--seconds", type=float, required=True, metavar="S", help="duration of the training"
    )
    parser.add_argument(
        "--metrics",
        type=existing,
        required=True,
        metavar="PATH",
        help="work directory of the tools/test.py run that scored it, or its JSON file",
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        default="float16",
        help="type of the numbers to write (default: %(default)s)",
    )
    add_option(parser, "--max-mb", amount, "MB", "refuse to write a larger file", 8.0)
    return parser.parse_args()


def read_metrics(path: Path) -> dict[str, Any]:
    """Metrics that MMEngine's test loop wrote: DIR/TIMESTAMP/TIMESTAMP.json, the newest of them.

    Raises:
        FileNotFoundError: The directory holds no such file.
        ValueError: The file is not JSON, or not an object with at least one metric.
    """
    if path.is_dir():
        files = [file for file in path.glob("*/*.json") if file.stem == file.parent.name]
        if not files:
            raise FileNotFoundError(f"{path} holds no TIMESTAMP/TIMESTAMP.json of a test run")
        path = max(files)
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    named = content.items() if isinstance(content, dict) else ()
    metrics = {name: value for name, value in named if name not in ("time", "data_time")}
    if not metrics:
        raise ValueError(f"{path} holds no metrics")
    return metrics


def publish(
    src: Path, dst: Path, dtype: torch.dtype, max_bytes: int, provenance: dict[str, Any]
) -> dict[str, Any]:
    """Write the weights of a training checkpoint to ``dst`` and their record beside it.

    Only the state dict (the averaged one where MMEngine's EMAHook kept one: it saves that as the
    model's) and the dataset's meta (class names) are kept, and of the former not the parts that
    only training uses.

    Args:
        src: Checkpoint of MMEngine's runner.
        dst: File to write; the record gets the suffix ``.json``.
        dtype: Type of the floating-point tensors. Integer tensors keep theirs.
        max_bytes: Largest size of the file.
        provenance: What else the record holds.

    Returns:
        dict: The record: file, bytes, sha256, dtype, seed, iterations, versions, provenance.

    Raises:
        CheckpointError: ``src`` cannot be read or holds more than weights and training state.
        ValueError: ``src`` is no checkpoint of a runner, a tensor does not fit ``dtype``, or the
            file is too large. ``dst`` is left as it was.
    """
    import torch

    import mmvis_plugin
    from mmvis_plugin.checkpoint import dataset_version, load_checkpoint_safely
    from mmvis_plugin.files import replacing
    from mmvis_plugin.models.video_segmentor import training_only_parts

    checkpoint = load_checkpoint_safely(src)
    missing = [key for key in ("state_dict", "meta") if key not in checkpoint]
    if missing:
        raise ValueError(f"{src} has no {' and no '.join(missing)}: not a training checkpoint")
    meta = checkpoint["meta"]
    require_types(src, checkpoint["state_dict"], meta)
    trained_only = tuple(f"{part}." for part in training_only_parts(model_type(meta)))
    weights = {
        "meta": {"dataset_meta": meta.get("dataset_meta") or {}},
        "state_dict": {
            name: shrink(name, tensor, dtype)
            for name, tensor in checkpoint["state_dict"].items()
            if not name.startswith(trained_only)
        },
    }
    record_file = dst.with_suffix(".json")
    with replacing(dst) as temporary, replacing(record_file) as temporary_record:
        torch.save(weights, temporary)
        size = temporary.stat().st_size
        if size > max_bytes:
            raise ValueError(f"{dst} would be {size / 1e6:.2f} MB, over {max_bytes / 1e6:.2f} MB")
        record = {
            "file": dst.name,
            "bytes": size,
            "sha256": hashlib.sha256(temporary.read_bytes()).hexdigest(),
            "dtype": str(dtype).removeprefix("torch."),
            "seed": meta.get("seed"),
            "iterations": meta.get("iter"),
            "dataset_version": dataset_version(checkpoint),
            "versions": {
                "mmvis_plugin": mmvis_plugin.__version__,
                # MMEngine puts the commit of the working directory behind its version.
                "mmengine": re.sub(r"[0-9a-f]{40}$", "", meta.get("mmengine_version") or ""),
                "torch": torch.__version__,
            },
            **provenance,
        }
        temporary_record.write_text(json.dumps(record, indent=2) + "\n")
    return record


def require_types(src: Path, weights: dict, meta: dict[str, Any]) -> None:
    """Make sure that a checkpoint has tensors under names, and what the record takes from its meta.

    Raises:
        ValueError: It has anything else.
    """
    import torch

    for name, value in weights.items():
        if not (isinstance(name, str) and isinstance(value, torch.Tensor)):
            kind = type(value).__name__
            raise ValueError(
                f"{src}: {name!r} of its state_dict is a {kind}, not a tensor under a name"
            )
    for key, kind in (("iter", int), ("seed", int), ("cfg", str), ("mmengine_version", str)):
        if not isinstance(meta.get(key), kind | None):
            raise ValueError(f"{src}: {key} in its meta is not of type {kind.__name__}")


def model_type(meta: dict[str, Any]) -> str | None:
    """The ``model.type`` in the config that a checkpoint holds as text, which is not executed."""
    try:
        config = ast.parse(meta.get("cfg") or "")
    except (SyntaxError, ValueError):
        return None
    for statement in config.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "model":
            for argument in getattr(statement.value, "keywords", ()):
                if argument.arg == "type" and isinstance(argument.value, ast.Constant):
                    return argument.value.value
    return None


def shrink(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in ``dtype`` if it is floating point, in storage of its own."""
    import torch

    if not tensor.is_floating_point():
        return tensor.clone()
    small = tensor.to(dtype).clone(memory_format=torch.contiguous_format)
    if not torch.isfinite(small).all():
        raise ValueError(
            f"{name} has values that are not finite in {dtype} (largest: {tensor.abs().max():.3g})"
        )
    return small


if __name__ == "__main__":
    run(main)
