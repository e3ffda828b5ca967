import json
import subprocess
import sys

import cv2
import pytest

from mmvis_plugin.evaluation import analyze_errors, evaluate_tracking

from .conftest import ROOT
from .vis_files import write_case

NAME = "analysis_tools/analyze_errors"


def test_table_json_and_plot(tool, tmp_path, capsys):
    gt, _, worse = write_case(tmp_path)
    out, plot = tmp_path / "out/errors.json", tmp_path / "plots/errors.png"
    tool(NAME, worse, gt, "--json", out, "--plot", plot)
    content = json.loads(out.read_text())
    analysis = analyze_errors(gt, worse)
    assert content["errors"] == analysis.to_dict()
    assert content["errors"]["errors"]["missed"]["count_per_threshold"] == [4] * 10
    assert {key: content[key] for key in ("hota", "counts")} == evaluate_tracking(gt, worse)
    printed = capsys.readouterr().out
    gain = f"{analysis.gains['missed'].mean():+.3f}"
    assert f"missed                       {gain}  {gain}              4" in printed
    assert "4 objects with 0" in printed
    image = cv2.imread(str(plot))
    assert image.shape[0] > 500 and image.shape[1] > 1000
    assert image.std() > 10
    assert [path.name for path in plot.parent.iterdir()] == ["errors.png"]


def test_one_threshold(tool, tmp_path, capsys):
    gt, _, worse = write_case(tmp_path)
    tool(NAME, worse, gt, "--thresholds", 0.75, "--plot", tmp_path / "errors.png")
    assert "at 0.75" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "errors.png")).shape[1] < 1000


def test_score_threshold_is_for_hota_and_counts(tool, tmp_path):
    gt, right, _ = write_case(tmp_path)
    out = tmp_path / "errors.json"
    tool(NAME, right, gt, "--json", out, "--score-thr", 0.85)
    content = json.loads(out.read_text())
    assert content["score_threshold"] == 0.85
    assert content["counts"]["all"]["tracks"] == 6
    assert content["hota"] == evaluate_tracking(gt, right, 0.85)["hota"]
    assert content["errors"]["ap"]["mean"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["right.json", "none.json"], "none.json"),
        (["gt.json", "gt.json"], "gt.json: expected a list of entries"),
        (["right.json", "gt.json", "--thresholds", "5"], r"thresholds must be in \(0, 1\]"),
        (["right.json", "gt.json", "--plot", "errors.xyz"], "xyz"),
    ],
)
def test_errors_are_told(tool, tmp_path, monkeypatch, arguments, message):
    write_case(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        tool(NAME, *arguments)
    assert not list(tmp_path.glob(".*")) and not list(tmp_path.glob("errors*"))


@pytest.mark.parametrize("name", ["analyze_errors", "eval_results"])
def test_help_has_an_example(name):
    script = ROOT / f"tools/analysis_tools/{name}.py"
    output = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert f"python tools/analysis_tools/{name}.py" in output.split("examples:")[1]


def test_without_trackeval_one_line_has_the_command(tool, tmp_path, monkeypatch):
    gt, right, _ = write_case(tmp_path)
    monkeypatch.setitem(sys.modules, "trackeval.metrics", None)
    with pytest.raises(
        SystemExit, match="^error: .*run: pip install --no-deps trackeval==[^\\n]*$"
    ):
        tool(NAME, right, gt)
