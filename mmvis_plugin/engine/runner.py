"""MMEngine's Runner with a log that fits on a screen, whole checkpoints and checked weights."""

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.dist import is_main_process, master_only
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, CheckpointLoader, Runner
from mmengine.utils.dl_utils import collect_env
from torch import nn
from torch.utils.data import DataLoader

from mmvis_plugin.checkpoint import fill_model, is_url, load_checkpoint_safely
from mmvis_plugin.config import ConfigError
from mmvis_plugin.files import replacing, write_text
from mmvis_plugin.processes import start_worker

from .hooks.lowest_score_hook import LowestScoreHook
from .pretrained import Fit, describe, fill_partly, fits_of, train_new_heads_fully


@RUNNERS.register_module()
class VISRunner(Runner):
    """MMEngine's Runner for ``tools/train.py`` and ``tools/test.py``.

    What differs: the log names what a run is made of in a few lines, and the long lists (config,
    environment) go to files; a checkpoint appears under its name when it is whole; weights are
    opened safely, and weights that do not fit are an error; the workers of data loaders end with
    this process, even if it is killed. Arguments are MMEngine's.

    Attributes:
        opened (dict, optional): The checkpoint to load, if the caller has opened it already.
        fits (list[Fit]): How the weights that the config starts from fit the model.
    """

    opened: dict[str, Any] | None = None
    fits: list[Fit] = []

    @property
    def bare_model(self) -> nn.Module:
        """The model without a wrapper for several processes."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    @property
    def _trains(self) -> bool:
        """Whether the run is a training: a config for testing has a train loop, too."""
        return isinstance(self._train_loop, BaseLoop)

    def register_hooks(self, default_hooks=None, custom_hooks=None) -> None:
        """Register the hooks of a config, and the one that explains an AP of 0."""
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(LowestScoreHook())

    # --- data ---

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader whose workers end with this process."""
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if loader is not dataloader and loader.num_workers:
            loader.worker_init_fn = partial(start_worker, os.getpid(), loader.worker_init_fn)
        return loader

    # --- optimizer ---

    def build_optim_wrapper(self, optim_wrapper) -> OptimWrapper | OptimWrapperDict:
        """Build the optimizers; heads that the weights do not fit train at the full rate.

        Raises:
            CheckpointError: The weights that the config starts from fit nothing of the model.
        """
        if isinstance(optim_wrapper, OptimWrapper):
            return optim_wrapper
        with quiet(self.logger):
            built = super().build_optim_wrapper(optim_wrapper)
        start = None if self._resume else self._load_from
        self.fits = fits_of(self.bare_model, start)
        raised = train_new_heads_fully(self.bare_model, built, self.fits)
        if raised:
            self.logger.info(
                f"{len(raised)} parameters have another shape than in the weights and start at "
                f"random; they train at the full learning rate: {', '.join(raised)}"
            )
        self.logger.info(describe(self.bare_model, built))
        return built

    # --- weights ---

    def build_param_scheduler(self, scheduler):
        """Build the schedules of the learning rate.

        Args:
            scheduler: Their configs; see MMEngine.

        Raises:
            ConfigError: An argument has a value that its schedule refuses.
        """
        try:
            return super().build_param_scheduler(scheduler)
        except ValueError as error:
            raise ConfigError(f"param_scheduler = {scheduler}: {error}") from error

    def _init_model_weights(self) -> None:
        with quiet(self.logger):
            super()._init_model_weights()
        for fit in self.fits:
            self.logger.info(str(fit))

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = False, revise_keys=None
    ) -> dict[str, Any]:
        """Load a checkpoint safely.

        To test or to go on with a training, all weights of the model must be there. A training may
        start from some of them.

        Args:
            filename: A file, an address, or a name of a model zoo.
            map_location: Not used: tensors come to the CPU, and PyTorch copies them from there.
            strict: Not used.
            revise_keys: Not used: the prefix of a model wrapper is removed.

        Returns:
            dict: The checkpoint.

        Raises:
            CheckpointError: The checkpoint is missing, unsafe, damaged or does not fit.
        """
        checkpoint = self.opened or _open(filename)
        self.opened = None
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        if self._trains and not self._resume:
            fill_partly(self.bare_model, checkpoint)
        else:
            fill_model(self.bare_model, checkpoint, filename, self.cfg.filename or "the config")
        self._has_loaded = True
        return checkpoint

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Save a checkpoint, which appears under its name when it is whole."""
        backend = get_file_backend(out_dir, backend_args=kwargs.get("backend_args"))
        if not isinstance(backend, LocalBackend):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        path = Path(out_dir, filename)
        with replacing(path) as temporary:
            super().save_checkpoint(out_dir, temporary.name, *args, **kwargs)
            _flush(temporary)

    # --- log ---

    def _log_env(self, env_cfg: dict) -> None:
        """Log what a run depends on in one line; the whole environment goes to a file."""
        self.logger.info(
            f"Python {platform.python_version()}, PyTorch {torch.__version__}, MMEngine "
            f"{mmengine.__version__}; {_devices(self.world_size)}; seed {self.seed}"
        )
        if is_main_process():
            values = dict(collect_env(), **env_cfg, seed=self.seed, launcher=self._launcher)
            text = "".join(f"{name}: {value}\n" for name, value in values.items())
            write_text(text, Path(self.log_dir, "environment.txt"))
        self.logger.info(f"Log, environment and config are in {self.log_dir}")

    def get_hooks_info(self) -> str:
        """The hooks in the order of their priority, in one line."""
        return ", ".join(type(hook).__name__ for hook in self.hooks)

    def load_or_resume(self) -> None:
        """Load the weights; after that, say what a training is made of."""
        loads = not self._has_loaded and self._load_from
        super().load_or_resume()
        self.message_hub.update_info("threads", torch.get_num_threads())
        if loads and not self.fits:
            self.logger.info(f"Loaded all weights of the model from {self._load_from}")
        if self._trains:
            self.logger.info(_describe_data(self.train_dataloader))


def _open(filename: str) -> dict[str, Any]:
    if "://" in filename and not is_url(filename):
        return CheckpointLoader.load_checkpoint(filename, map_location="cpu")
    return load_checkpoint_safely(filename)


def _flush(path: Path) -> None:
    """Let a file reach the disk, so that a crash of the machine does not leave an empty one."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _devices(world_size: int) -> str:
    if torch.cuda.is_available():
        return f"{world_size} x {torch.cuda.get_device_name()}"
    processes = f"{world_size} processes, each with " if world_size > 1 else ""
    threads = torch.get_num_threads()
    return f"CPU, {processes}{threads} thread{'s' * (threads > 1)}"


def _describe_data(loader: DataLoader) -> str:
    dataset = loader.dataset
    classes = (getattr(dataset, "metainfo", None) or {}).get("classes") or ()
    names = ", ".join([*classes[:6], "..."] if len(classes) > 6 else classes)
    return (
        f"Training data: {len(dataset)} videos or images, {len(classes)} classes ({names}), "
        f"{loader.batch_size} a batch"
    )


@contextmanager
def quiet(logger: MMLogger) -> Iterator[None]:
    """Keep a logger's lines for each parameter of a model off screen and file.

    MMEngine writes some of them to the handlers of files past the logger's level.

    Args:
        logger: The run's logger.
    """
    level, handlers = logger.level, logger.handlers[:]
    logger.setLevel(logging.ERROR)
    for handler in handlers:
        if isinstance(handler, logging.FileHandler):
            logger.removeHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.handlers[:] = handlers
