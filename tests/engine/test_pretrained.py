"""How the weights that a training starts from fit, and the learning rates that follow."""

import copy

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.engine.pretrained import (
    describe,
    fill_partly,
    fits_of,
    train_new_heads_fully,
)


class Detector(BaseModule):
    def __init__(self, classes=3, init_cfg=None):
        super().__init__(init_cfg)
        self.backbone = nn.Linear(4, 4)
        self.offsets = nn.Linear(4, 2)
        self.fc_cls = nn.Linear(4, classes)


class Head(nn.Linear, BaseModule):
    def __init__(self, inputs, outputs, init_cfg):
        BaseModule.__init__(self, init_cfg)
        nn.Linear.__init__(self, inputs, outputs)
        self.init_cfg, self._is_init = init_cfg, False


class Segmentor(BaseModule):
    def __init__(self, classes=3, init_cfg=None, detector_cfg=None):
        super().__init__(init_cfg)
        self.detector = Detector(classes, detector_cfg)
        self.track = nn.Linear(4, 8)


@pytest.fixture
def weights(tmp_path):
    """A detector for three classes, saved by itself."""
    path = tmp_path / "detector.pth"
    torch.save(dict(state_dict=Detector().state_dict()), path)
    return str(path)


def pretrained(path, **options):
    return dict(type="Pretrained", checkpoint=path, **options)


def test_the_same_classes_fit_whole(weights):
    (fit,) = fits_of(Segmentor(detector_cfg=pretrained(weights)), None)
    assert len(fit.loaded) == fit.total == 6 and fit.reshaped == []
    assert str(fit) == f"Loaded 6 of 6 weights of detector from {weights}"


@pytest.mark.parametrize("prefix", [None, "fc_cls"])
def test_what_is_counted_is_what_mmengine_loads(tmp_path, prefix):
    """Of a file in which some weights have another shape, and others are missing."""
    state = {name: value + 100 for name, value in Detector(3).state_dict().items()}
    del state["backbone.bias"]
    state["offsets.weight"] = torch.ones(3, 4)
    before = "" if prefix else "module."
    path = str(tmp_path / "weights.pth")
    torch.save(dict(state_dict={before + name: value for name, value in state.items()}), path)
    model = Segmentor(3 if prefix else 5)
    if prefix:
        model.track = Head(4, 3, pretrained(path, prefix=prefix))
    else:
        model.detector.init_cfg = [dict(type="Normal", layer="Linear"), pretrained(path)]
    (fit,) = fits_of(model, None)
    model.init_weights()
    loaded = [name for name, value in model.state_dict().items() if value.mean() > 50]
    assert fit.loaded == loaded and loaded
    if not prefix:
        new = ["offsets.weight", "fc_cls.weight", "fc_cls.bias"]
        assert fit.reshaped == [f"detector.{name}" for name in new]


def test_load_from_that_fits_nothing_names_the_setting_that_takes_it(weights):
    setting = r"model\.detector\.init_cfg"
    message = (
        rf"{weights} fits nothing of Segmentor: none of its 6 weights .* 6 of them fit detector: "
        rf".*load_from=None {setting}\.type=Pretrained {setting}\.checkpoint={weights}$"
    )
    with pytest.raises(CheckpointError, match=message):
        fits_of(Segmentor(), weights)
    torch.save(dict(other=torch.ones(1)), weights)
    with pytest.raises(CheckpointError, match="of its 1 weights has the name .* the model's$"):
        fits_of(Segmentor(), weights)
    with pytest.raises(CheckpointError, match="^model.detector.init_cfg: .* fits nothing"):
        fits_of(Segmentor(detector_cfg=pretrained(weights)), None)


def test_load_from_of_another_method_is_refused_or_named(tmp_path):
    """Below half of the weights it is refused; above, the log says which parts get nothing."""
    path = str(tmp_path / "other.pth")
    state = Segmentor().state_dict()
    del state["track.weight"], state["track.bias"]
    torch.save(dict(state_dict=state), path)
    (fit,) = fits_of(Segmentor(), path)
    assert str(fit) == f"Loaded 6 of 8 weights from {path}; the file lacks 2: 2 of track"
    backbone = {name: state[name] for name in state if "backbone" in name}
    torch.save(dict(state_dict=backbone), path)
    with pytest.raises(CheckpointError, match="is not for a Segmentor: it has 2 of the model's 8"):
        fits_of(Segmentor(), path)


OPTIMIZER = dict(
    optimizer=dict(type="SGD", lr=0.1, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(detector=dict(lr_mult=0.1), track=dict(lr_mult=2))),
)


@pytest.mark.parametrize("way", ["init_cfg", "load_from"])
def test_heads_for_other_classes_train_at_the_full_rate(weights, way):
    model = Segmentor(5, detector_cfg=pretrained(weights) if way == "init_cfg" else None)
    if way == "load_from":
        torch.save(dict(state_dict=Segmentor(3).state_dict()), weights)
    optimizer = build_optim_wrapper(model, copy.deepcopy(OPTIMIZER))
    fits = fits_of(model, weights if way == "load_from" else None)
    raised = train_new_heads_fully(model, optimizer, fits)
    assert raised == ["detector.fc_cls.weight", "detector.fc_cls.bias"]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(g["params"][0])]: g["lr"] for g in optimizer.optimizer.param_groups}
    for name, rate in rates.items():
        expected = 0.2 if name.startswith("track") else 0.1 if "fc_cls" in name else 0.01
        assert rate == pytest.approx(expected), name


def test_rates_of_fitting_weights_stay(weights):
    """Also of parts without weights whose lower rate is the method's, such as offsets."""
    state = torch.load(weights)["state_dict"]
    for name in ("offsets.weight", "offsets.bias"):
        del state[name]
    torch.save(state, weights)
    model = Segmentor(detector_cfg=pretrained(weights))
    optimizer = build_optim_wrapper(model, copy.deepcopy(OPTIMIZER))
    before = [group["lr"] for group in optimizer.optimizer.param_groups]
    assert train_new_heads_fully(model, optimizer, fits_of(model, None)) == []
    assert [group["lr"] for group in optimizer.optimizer.param_groups] == before


def test_a_start_takes_what_fits(weights):
    model = Detector(5)
    own, file = copy.deepcopy(model.state_dict()), torch.load(weights)
    fill_partly(model, file)
    expected = {**own, **torch.load(weights)["state_dict"]}
    expected |= {name: own[name] for name in own if name.startswith("fc_cls")}
    torch.testing.assert_close(dict(model.state_dict()), expected)


def test_parameters_are_summed_up():
    model = Segmentor()
    model.detector.backbone.requires_grad_(False)
    text = describe(model, build_optim_wrapper(model, copy.deepcopy(OPTIMIZER)))
    assert text.count("million at") == 2 and text.count("frozen") == 1
    assert "lr 0.01, weight decay 0.01" in text and "lr 0.2," in text and "\n" not in text
