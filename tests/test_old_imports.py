"""Imports that README and docs named before files moved keep working for a release."""

import importlib
import sys

import pytest

DOCUMENTED = [
    ("mmvis_plugin.apis", ("VISInferencer", "JSONSink", "VideoSink")),
    ("mmvis_plugin.datasets.converters", ("ConversionError", "convert_cvat", "ytvis_to_cocovid")),
    ("mmvis_plugin.evaluation", ("evaluate_ytvis", "correct_results")),
    ("mmvis_plugin.visualization", ("TrackVisualizer",)),
    ("mmvis_plugin.visualization.contact_sheet", ("contact_sheet",)),
    ("mmvis_plugin.visualization.timeline", ("plot_timeline",)),
]


@pytest.mark.parametrize("module, names", DOCUMENTED)
def test_documented_names_are_in_their_place(module, names):
    assert all(callable(getattr(importlib.import_module(module), name)) for name in names)


def test_a_name_that_changed_warns_and_gives_the_same():
    evaluation = importlib.import_module("mmvis_plugin.evaluation")
    with pytest.warns(FutureWarning, match="is now correct_results"):
        assert evaluation.mend_results is evaluation.correct_results


def test_a_module_that_moved_warns_and_gives_the_same(monkeypatch):
    monkeypatch.delitem(sys.modules, "mmvis_plugin.datasets.checking", raising=False)
    with pytest.warns(FutureWarning, match=r"is now mmvis_plugin\.ytvis\.checking"):
        former = importlib.import_module("mmvis_plugin.datasets.checking")
    assert former.check_ytvis is importlib.import_module("mmvis_plugin.ytvis.checking").check_ytvis
