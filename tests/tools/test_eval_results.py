import json

import pytest

from mmvis_plugin.evaluation import evaluate_ytvis
from mmvis_plugin.evaluation.report import markdown_table, text_table

from .vis_files import write_case

NAME = "analysis_tools/eval_results"
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")


def row_of(name, printed):
    """Words of the first line that begins with a name; None without one."""
    rows = [line.split() for line in printed.splitlines()]
    return next((row for row in rows if row[:1] == [name]), None)


def test_figures_by_class_and_tag(tool, tmp_path, capsys):
    gt, _, worse = write_case(tmp_path)
    out = tmp_path / "new/folder/figures.json"
    tool(NAME, worse, gt, "--json", out)
    content = json.loads(out.read_text())
    everything = evaluate_ytvis(gt, worse)
    groups = {
        ("all",): everything,
        ("per_class", "a"): everything["per_class"]["a"],
        ("per_class", "b"): everything["per_class"]["b"],
        ("per_tag", "occlusion"): evaluate_ytvis(gt, worse, video_ids=[1, 2]),
        ("per_tag", "fast_motion"): evaluate_ytvis(gt, worse, video_ids=[2]),
        ("per_tag", "(no tag)"): evaluate_ytvis(gt, worse, video_ids=[3, 4]),
    }
    for keys, expected in groups.items():
        found = content
        for key in keys:
            found = found[key]
        assert list(found) == list(FIGURES)
        for figure in FIGURES:
            value = expected[figure] if expected[figure] >= 0 else None
            assert found[figure] == pytest.approx(value), (keys, figure)
    assert content["per_tag"]["occlusion"]["AP"] == pytest.approx(0.5)
    assert content["videos_per_tag"] == {"fast_motion": 1, "occlusion": 2, "(no tag)": 2}
    printed = capsys.readouterr().out
    assert row_of("all", printed)[:2] == ["all", f"{everything['AP']:.3f}"]
    assert row_of("occlusion", printed)[:3] == ["occlusion", "(2)", "0.500"]
    assert f"wrote {out}" in printed
    assert [path.name for path in out.parent.iterdir()] == ["figures.json"]


def test_untagged_annotations_have_no_table_of_tags(tool, tmp_path, capsys):
    gt, right, _ = write_case(tmp_path)
    content = json.loads(gt.read_text())
    for video in content["videos"]:
        video.pop("tags", None)
    gt.write_text(json.dumps(content))
    tool(NAME, right, gt, "--json", tmp_path / "out.json")
    assert row_of("tag", capsys.readouterr().out) is None
    assert json.loads((tmp_path / "out.json").read_text())["per_tag"] == {}


def test_markdown_has_the_same_tables(tool, tmp_path, capsys):
    gt, right, _ = write_case(tmp_path)
    tool(NAME, right, gt, "--markdown", tmp_path / "out.md")
    text = (tmp_path / "out.md").read_text()
    assert "| all | 1.000 | 1.000 | 1.000 | 1.000 | - | - | 0.500 | 1.000 | 1.000 |" in text
    assert "| tag (videos) | AP |" in text


def test_comparison(tool, tmp_path, capsys):
    gt, right, worse = write_case(tmp_path)
    out = tmp_path / "out.json"
    tool(NAME, right, gt, "--compare", worse, "--json", out, "--samples", 300, "--seed", 3)
    content = json.loads(out.read_text())
    ap = content["all"]["AP"]
    expected = evaluate_ytvis(gt, worse)["AP"]
    assert (ap["results"], ap["compared_with"]) == pytest.approx((1, expected))
    assert ap["difference"] == pytest.approx(1 - expected)
    low, high = ap["interval"]
    assert 0 <= low < ap["difference"] < high <= 0.5
    assert content["all"]["APl"] == dict.fromkeys(ap)  # no large objects: nothing is defined
    assert content["all"]["AR1"]["interval"] is None
    assert content["per_class"]["a"]["AP"]["interval"] == [0, 0]  # the same in both
    assert content["per_class"]["b"]["AP"]["difference"] == pytest.approx(2 * (1 - expected))
    # In each of the two videos, class a is right and class b is lost.
    assert content["per_tag"]["occlusion"]["AP"]["interval"] == pytest.approx([0.5, 0.5])
    assert content["per_tag"]["(no tag)"]["AP"]["interval"] == [0, 0]
    printed = row_of("AP", capsys.readouterr().out)
    assert printed[:4] == ["AP", "1.000", f"{expected:.3f}", f"{1 - expected:+.3f}"]
    assert printed[4:] == [f"{low:+.3f}", "to", f"{high:+.3f}"]

    first = out.read_bytes()
    tool(NAME, right, gt, "--compare", worse, "--json", out, "--samples", 300, "--seed", 3)
    assert out.read_bytes() == first


def test_class_without_objects_is_undefined(tool, tmp_path):
    gt, right, worse = write_case(tmp_path)
    content = json.loads(gt.read_text())
    content["categories"].append({"id": 9, "name": "never"})
    gt.write_text(json.dumps(content))
    out = tmp_path / "out.json"
    tool(NAME, right, gt, "--compare", worse, "--json", out, "--samples", 100)
    never = json.loads(out.read_text())["per_class"]["never"]
    assert all(value is None for entry in never.values() for value in entry.values())


def spoil_track(contents):
    contents["right.json"][5]["segmentations"] = [None]


def spoil_rle(contents):
    contents["right.json"][5]["segmentations"][3]["counts"] = "0"


def spoil_annotation(contents):
    contents["gt.json"]["annotations"][6]["segmentations"][1]["size"] = [3, 3]


def spoil_tags(contents):
    contents["gt.json"]["videos"][2]["tags"] = "occlusion"


def no_annotations(contents):
    contents["gt.json"]["annotations"] = []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_track, r"right\.json\[5\] \(video_id 2, category_id 2\).*8"),
        (spoil_rle, r"right\.json\[5\] \(video_id 2, category_id 2\), frame 3: "),
        (spoil_annotation, r"gt\.json: video 2: annotation 7: frame 1: "),
        (spoil_tags, r"gt\.json: video 3: 'tags' must be a list of texts, got 'occlusion'"),
        (no_annotations, r"gt\.json has no annotations.*split_ytvis\.py"),
    ],
)
def test_bad_files_are_named_and_nothing_is_written(tool, tmp_path, spoil, message):
    paths = write_case(tmp_path)
    contents = {path.name: json.loads(path.read_text()) for path in paths}
    spoil(contents)
    for path in paths:
        path.write_text(json.dumps(contents[path.name]))
    out = tmp_path / "out.json"
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        tool(NAME, paths[1], paths[0], "--json", out)
    assert not out.exists()


def test_files_that_are_no_json_or_not_there(tool, tmp_path):
    gt, right, _ = write_case(tmp_path)
    with pytest.raises(SystemExit, match="^error: .*none.json"):
        tool(NAME, tmp_path / "none.json", gt)
    right.write_text("[{")
    with pytest.raises(SystemExit, match="^error: .*right.json: not valid JSON"):
        tool(NAME, right, gt)


def test_too_few_samples(tool, tmp_path, capsys):
    gt, right, _ = write_case(tmp_path)
    with pytest.raises(SystemExit):
        tool(NAME, right, gt, "--samples", 10)
    assert "--samples must be at least 100, got 10" in capsys.readouterr().err


def test_tables():
    header, rows = ["class", "AP"], [["a | b", "0.5"], ["c", "-"]]
    assert text_table(header, rows) == "class   AP\n----------\na | b  0.5\nc        -"
    assert markdown_table(header, rows) == (
        "| class | AP |\n| --- | ---: |\n| a \\| b | 0.5 |\n| c | - |"
    )
