"""Going on with a training that was stopped."""

import os
from typing import Any

from mmengine.config import Config

from mmvis_plugin.checkpoint import CheckpointError, load_checkpoint_safely
from mmvis_plugin.config import remove_pretrained
from mmvis_plugin.distributed import keep_threads

from .work_dir import saved_checkpoints

TRAINING_STATE = {"meta", "state_dict", "optimizer", "message_hub"}


def set_resume(cfg: Config, resume: str) -> None:
    """Let a run go on from a checkpoint, with the checkpoint's seed and number of threads.

    MMEngine takes the seed of the checkpoint too, but only after it has seeded the data with the
    config's. The checkpoint holds all weights: the ones that the config starts from are not needed
    any more; they may be gone or out of reach by now.

    Args:
        cfg: Config with ``work_dir``, changed in place.
        resume: A checkpoint, or ``'auto'`` for the newest in ``work_dir`` that can be loaded. If
            ``work_dir`` has none yet, the run begins as the config says.

    Raises:
        CheckpointError: The checkpoint is missing, unsafe, damaged, or has no training state; with
            ``'auto'``, all checkpoints are of this kind.
    """
    path, checkpoint = _newest(cfg.work_dir) if resume == "auto" else (resume, load_state(resume))
    if checkpoint is None:
        print(f"Nothing to resume in {cfg.work_dir}: training from the start.", flush=True)
        cfg.resume = False
        return
    remove_pretrained(cfg)
    cfg.resume, cfg.load_from = True, str(path)
    set_seed(cfg, checkpoint["meta"].get("seed"))
    keep_threads(checkpoint["message_hub"].get("runtime_info", {}).get("threads"))
    print(f"Resuming from {path}.", flush=True)


def load_state(path: str | os.PathLike) -> dict[str, Any]:
    """Load a checkpoint that a training can go on from.

    Args:
        path: A file or an address.

    Raises:
        CheckpointError: It is missing, unsafe, damaged, or has no training state.
    """
    checkpoint = load_checkpoint_safely(path)
    if not checkpoint.keys() >= TRAINING_STATE:
        raise CheckpointError(
            f"{path} holds weights but not the state of a training run, so it cannot be "
            f"resumed. To start from its weights: --cfg-options load_from={path}"
        )
    return checkpoint


def _newest(work_dir: str) -> tuple[os.PathLike, dict] | tuple[None, None]:
    """The newest checkpoint that can be loaded; what is passed over is printed."""
    reasons = []
    for path in saved_checkpoints(work_dir):
        try:
            checkpoint = load_state(path)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            print(f"Passed over: {reason}", flush=True)
        return path, checkpoint
    if reasons:
        raise CheckpointError(
            f"{work_dir} has no checkpoint that can be resumed: {' '.join(reasons)} "
            "To train from the start, leave out --resume."
        )
    return None, None


def set_seed(cfg: Config, seed: int | None) -> None:
    """Set the seed of the run unless it is None."""
    if seed is not None:
        cfg.randomness = dict(cfg.get("randomness") or {}, seed=seed)
