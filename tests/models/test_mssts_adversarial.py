"""One step of a network and its discriminator, against the same step written out."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmengine.registry import MODEL_WRAPPERS, init_default_scope
from torch import nn

from mmvis_plugin.models.mssts import AdversarialDistributedDataParallel, adversarial_step


@pytest.fixture(autouse=True)
def _mmdet_scope():
    init_default_scope("mmdet")


class Segmentor(BaseModel):
    """Losses whose gradients are cut as those of a real one."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(3, 4)
        self.head = nn.Linear(4, 1)
        self.scale = nn.Parameter(torch.ones(()))
        self.discriminator = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))

    def forward(self, inputs, mode="loss"):
        predicted = self.scale * self.head(self.backbone(torch.stack(inputs)).tanh()).sigmoid()
        return dict(
            loss_mask=100 * predicted.square().mean(),
            loss_separability=self.fool(predicted),
            loss_discriminator=self.judge(predicted.detach()),
        )

    def fool(self, predicted):
        own = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        logits = torch.func.functional_call(self.discriminator, own, predicted)
        return F.softplus(-logits).mean()

    def judge(self, predicted):
        return F.softplus(self.discriminator(predicted)).mean()


def optimizers(**changes):
    cfg = dict(
        constructor="AdversarialOptimWrapperConstructor",
        network=dict(
            optimizer=dict(type="SGD", lr=0.1, momentum=0.9),
            clip_grad=dict(max_norm=0.1),
            paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))),
        ),
        discriminator=dict(optimizer=dict(type="SGD", lr=0.2)),
    )
    for key, value in changes.items():
        cfg[key] = dict(cfg.get(key, {}), **value)
    return cfg


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Segmentor()


def batches(count):
    return [dict(inputs=list(torch.randn(5, 3))) for _ in range(count)]


def test_every_parameter_has_one_optimizer(model):
    wrappers = build_optim_wrapper(model, optimizers())
    assert isinstance(wrappers, OptimWrapperDict)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {}
    for key, wrapper in wrappers.items():
        groups = wrapper.optimizer.param_groups
        rates[key] = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    assert set(rates["network"]) | set(rates["discriminator"]) == set(names.values())
    assert all(name.startswith("discriminator.") for name in rates["discriminator"])
    assert not any(name.startswith("discriminator.") for name in rates["network"])
    for name, rate in rates["network"].items():
        assert rate == (0.05 if name.startswith("backbone.") else 0.1)


def test_a_step_is_that_of_two_trainings(model):
    """Each loss by its own optimizer, both from before the step; only the network is clipped."""
    wrappers = build_optim_wrapper(model, optimizers())
    slow = copy.deepcopy(model)
    network = [p for n, p in slow.named_parameters() if not n.startswith("discriminator.")]
    momentum = [torch.zeros_like(p) for p in network]
    rates = [
        0.05 if n.startswith("backbone.") else 0.1
        for n, _ in slow.named_parameters()
        if not n.startswith("discriminator.")
    ]
    for batch in batches(3):
        log = adversarial_step(model, batch, wrappers)
        losses = slow(**batch)
        total = losses["loss_mask"] + losses["loss_separability"]
        gradients = torch.autograd.grad(total, network)
        own = torch.autograd.grad(losses["loss_discriminator"], [*slow.discriminator.parameters()])
        norm = torch.stack([g.norm() for g in gradients]).norm()
        assert norm > 0.1
        with torch.no_grad():
            for i, (parameter, gradient) in enumerate(zip(network, gradients, strict=True)):
                momentum[i] = 0.9 * momentum[i] + gradient * 0.1 / norm
                parameter -= rates[i] * momentum[i]
            for parameter, gradient in zip(slow.discriminator.parameters(), own, strict=True):
                parameter -= 0.2 * gradient
        for (name, ours), expected in zip(model.named_parameters(), slow.parameters(), strict=True):
            torch.testing.assert_close(ours, expected, msg=name)
        assert set(log) == {"loss", *losses}
        for name, value in dict(losses, loss=total).items():
            torch.testing.assert_close(log[name], value)


def test_accumulated_gradients_are_those_of_a_larger_batch(model):
    accumulate = dict(accumulative_counts=2)
    pieces = build_optim_wrapper(model, optimizers(network=accumulate, discriminator=accumulate))
    whole_model = copy.deepcopy(model)
    whole = build_optim_wrapper(whole_model, optimizers())
    first, second = batches(2)
    before = copy.deepcopy(model.state_dict())
    adversarial_step(model, first, pieces)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    adversarial_step(model, second, pieces)
    adversarial_step(whole_model, dict(inputs=first["inputs"] + second["inputs"]), whole)
    torch.testing.assert_close(model.state_dict(), whole_model.state_dict())


def test_a_resumed_run_accumulates_as_the_whole_one(model):
    """Iterations 3 and 4 belong together, and the fifth and last stands by itself."""
    accumulate = dict(accumulative_counts=2)
    wrappers = build_optim_wrapper(model, optimizers(network=accumulate, discriminator=accumulate))
    wrappers.initialize_count_status(model, 2, 5)
    changed = []
    for batch in batches(3):
        before = copy.deepcopy(model.state_dict())
        adversarial_step(model, batch, wrappers)
        changed.append(
            {name for name, value in model.state_dict().items() if (value != before[name]).any()}
        )
    assert changed[0] == set()
    assert changed[1] == changed[2] == {name for name, _ in model.named_parameters()}


def test_distributed_without_a_discriminator(model, monkeypatch):
    """The wrapper, which configs inherit, is MMEngine's then."""
    trained = []
    monkeypatch.setattr(
        MMDistributedDataParallel, "train_step", lambda *args: trained.append(args[1:])
    )
    wrapper = AdversarialDistributedDataParallel.__new__(AdversarialDistributedDataParallel)
    torch.nn.Module.__init__(wrapper)
    wrapper.module = model
    model.discriminator = None
    wrapper.train_step("data", "single")
    assert trained == [("data", "single")]


def test_wrong_configs(model):
    for cfg, message in [
        (optimizers(paramwise_cfg=dict(custom_keys={})), "got .*paramwise_cfg"),
        (optimizers(decoder=dict(optimizer=dict(type="SGD"))), "got .*decoder"),
        (optimizers(network=dict(accumulative_counts=2)), "same accumulative_counts"),
    ]:
        with pytest.raises(ValueError, match=message):
            build_optim_wrapper(model, cfg)
    cfg = optimizers()
    del cfg["discriminator"]
    with pytest.raises(ValueError, match=r"got \['network'\]"):
        build_optim_wrapper(model, cfg)
    model.discriminator = None
    with pytest.raises(ValueError, match="model.discriminator is None"):
        build_optim_wrapper(model, optimizers())


def test_one_optimizer_is_not_enough(model):
    single = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="AdversarialOptimWrapperConstructor"):
        adversarial_step(model, batches(1)[0], single)


def test_the_model_wrapper_is_found_by_its_name():
    wrapper = MODEL_WRAPPERS.get("AdversarialDistributedDataParallel")
    assert wrapper is AdversarialDistributedDataParallel
    assert issubclass(wrapper, MMDistributedDataParallel)
