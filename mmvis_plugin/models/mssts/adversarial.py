"""Training a network and a discriminator, each with an optimizer of its own."""

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from mmengine.registry import MODEL_WRAPPERS  # the Runner looks for them here only
from torch import Tensor, nn

# The attribute of a segmentor, and how the names of its discriminator's losses begin.
DISCRIMINATOR = "discriminator"
DISCRIMINATOR_LOSS = "loss_discriminator"


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class AdversarialOptimWrapperConstructor:
    """Build one optimizer wrapper for a segmentor's discriminator and one for all the rest of it.

    In a config, where ``network`` and ``discriminator`` are each what ``optim_wrapper`` is
    elsewhere, names in ``paramwise_cfg`` being those in the segmentor or in its discriminator::

        optim_wrapper = dict(
            constructor="AdversarialOptimWrapperConstructor",
            network=dict(
                type="OptimWrapper",
                optimizer=dict(type="AdamW", lr=2e-4, weight_decay=1e-4),
                clip_grad=dict(max_norm=0.1),
                paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
            ),
            discriminator=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-4)),
        )
        param_scheduler = dict(network=[...], discriminator=[...])

    Args:
        optim_wrapper_cfg (dict): ``network`` and ``discriminator``.
        paramwise_cfg (dict, optional): Must be None: each of the two has its own.

    Raises:
        ValueError: The config is not of this form, or the two accumulate gradients over different
            numbers of iterations.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        names = {"network", DISCRIMINATOR}
        if paramwise_cfg is not None or set(optim_wrapper_cfg) != names:
            given = [*optim_wrapper_cfg, *(["paramwise_cfg"] if paramwise_cfg is not None else [])]
            raise ValueError(
                "optim_wrapper of a model with a discriminator has the keys constructor, network "
                f"and discriminator, each of the two with its own optimizer; got {given}"
            )
        if len({cfg.get("accumulative_counts", 1) for cfg in optim_wrapper_cfg.values()}) > 1:
            raise ValueError(
                "optim_wrapper.network and optim_wrapper.discriminator must have the same "
                "accumulative_counts: their gradients come from the same iterations"
            )
        self.optim_wrapper_cfg = optim_wrapper_cfg

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        """Build the two.

        Args:
            model: The segmentor, in a model wrapper or not.

        Raises:
            ValueError: It has no discriminator.
        """
        model = _unwrapped(model)
        if getattr(model, DISCRIMINATOR, None) is None:
            raise ValueError(
                f"the optim_wrapper is for a {type(model).__name__} with a discriminator, but "
                "model.discriminator is None: give the model one, or optim_wrapper one optimizer"
            )
        parts = {"network": _without_discriminator(model), DISCRIMINATOR: model.discriminator}
        wrappers = {}
        for name, part in parts.items():
            cfg = self.optim_wrapper_cfg[name].copy()
            paramwise_cfg = cfg.pop("paramwise_cfg", None)
            wrappers[name] = DefaultOptimWrapperConstructor(cfg, paramwise_cfg)(part)
        return AdversarialOptimWrappers(**wrappers)


class AdversarialOptimWrappers(OptimWrapperDict):
    """Of a network and a discriminator, which count iterations for accumulated gradients."""

    def initialize_count_status(self, model: nn.Module, cur_iter: int, max_iters: int) -> None:
        """Count from a resumed run's iteration on, which MMEngine's class leaves undone.

        Args:
            model: The segmentor, in a model wrapper or not.
            cur_iter: Iterations done.
            max_iters: Of the whole run; gradients of its last ones are applied, too.
        """
        for wrapper in self.values():
            wrapper.initialize_count_status(model, cur_iter, max_iters)


def adversarial_step(
    model: nn.Module, data: dict, optim_wrapper: OptimWrapperDict
) -> dict[str, Tensor]:
    """Train a network and its discriminator on one batch.

    Both losses come from one forward pass, before either is updated, and each reaches its own
    parameters only; see :mod:`mmvis_plugin.models.mssts.separability`.

    Args:
        model: A segmentor of which ``mode="loss"`` gives the losses of the network and, by names
            that begin with ``loss_discriminator``, those of its discriminator; in a
            :class:`AdversarialDistributedDataParallel` or not.
        data: A batch of the data loader.
        optim_wrapper: With ``network`` and ``discriminator``.

    Returns:
        Values to log by name. ``loss`` is the sum of the network's losses.

    Raises:
        TypeError: ``optim_wrapper`` is a single one.
    """
    if not isinstance(optim_wrapper, OptimWrapperDict):
        raise TypeError(
            f"{type(_unwrapped(model)).__name__} has a discriminator, which needs an optimizer of "
            "its own: set optim_wrapper.constructor to AdversarialOptimWrapperConstructor"
        )
    segmentor = _unwrapped(model)
    with optim_wrapper["network"].optim_context(model):
        data = segmentor.data_preprocessor(data, training=True)
        losses = model._run_forward(data, mode="loss")
    names = [name for name in losses if name.startswith(DISCRIMINATOR_LOSS)]
    of_discriminator = {name: losses.pop(name) for name in names}
    total, log_vars = segmentor.parse_losses(losses)
    discriminator_total, discriminator_log_vars = segmentor.parse_losses(of_discriminator)
    # DistributedDataParallel averages the gradients when it has all of them, so both backward
    # passes come before both steps.
    for name, loss in (("network", total), (DISCRIMINATOR, discriminator_total)):
        optim_wrapper[name].backward(optim_wrapper[name].scale_loss(loss))
    for wrapper in optim_wrapper.values():
        if wrapper.should_update():
            wrapper.step()
            wrapper.zero_grad()
    return {**discriminator_log_vars, **log_vars}


@MODEL_WRAPPERS.register_module()
class AdversarialDistributedDataParallel(MMDistributedDataParallel):
    """Train a segmentor with a discriminator in several processes.

    MMEngine's wrapper has a ``train_step`` of its own, for one optimizer, and never calls the
    model's. In a config::

        model_wrapper_cfg = dict(type="AdversarialDistributedDataParallel", broadcast_buffers=False)
    """

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """See :func:`adversarial_step`; a model without a discriminator trains as in MMEngine."""
        if getattr(self.module, DISCRIMINATOR, None) is None:
            return super().train_step(data, optim_wrapper)
        return adversarial_step(self, data, optim_wrapper)


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


def _without_discriminator(model: nn.Module) -> nn.Module:
    """A module of the same parts under the same names, for the names in ``paramwise_cfg``."""
    rest = nn.Module()
    for name, child in model.named_children():
        if name != DISCRIMINATOR:
            rest.add_module(name, child)
    for name, parameter in model.named_parameters(recurse=False):
        rest.register_parameter(name, parameter)
    return rest
