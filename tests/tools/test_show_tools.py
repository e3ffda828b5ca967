"""The tools that show what is inside a model: what is in their pictures."""

import json
import weakref
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytest
import torch
from fake_segmentor import make_frame, write_file, write_inputs
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from mmengine.structures import InstanceData
from scripts import load_script

from mmvis_plugin.apis import (
    CSVSink,
    JSONSink,
    VideoReader,
    VideoWriter,
    VISInferencer,
    build_video_segmentor,
)
from mmvis_plugin.apis.inspection import inspect_model, model_frames, open_whole_video
from mmvis_plugin.models.efficientvis import inspection as efficientvis
from mmvis_plugin.models.inspection import InspectedVideo, ModelFrame, recorded
from mmvis_plugin.models.mssts import inspection as mssts
from mmvis_plugin.models.stmask import inspection as stmask
from mmvis_plugin.visualization import track_color
from mmvis_plugin.visualization.contact_sheet import GAP, caption_size
from mmvis_plugin.visualization.feature_maps import draw_arrow, draw_bars, draw_box, draw_points
from mmvis_plugin.visualization.labels import text_height

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools" / "analysis_tools"
WIDTH, HEIGHT = 128, 96  # of the frames of the shapes, which are shown at their own size
CAPTION = text_height(caption_size(WIDTH))


def brightness(picture):
    return picture.astype(float) @ (0.114, 0.587, 0.299)


def colorfulness(picture):
    """Of heat on a grey frame: 0 where there is none."""
    return np.ptp(picture.astype(int), axis=-1)


def tiles(path, counts, columns):
    """Pictures of the sections of a sheet that all have titles, by section."""
    sheet = cv2.imread(str(path))
    sections, top = [], 0
    for count in counts:
        top += CAPTION + 2 * GAP
        pictures = []
        for i in range(count):
            x = GAP + i % columns * (WIDTH + GAP)
            y = top + i // columns * (CAPTION + HEIGHT + GAP) + CAPTION
            pictures.append(sheet[y : y + HEIGHT, x : x + WIDTH])
        sections.append(pictures)
        top += -(-count // columns) * (CAPTION + HEIGHT + GAP)
    assert top < sheet.shape[0]
    return sections


def ground_truth(shapes):
    """Masks of the first validation video, by object and frame; None where it is absent."""
    content = json.loads((shapes / "valid.json").read_text())
    return [
        [None if rle is None else mask_utils.decode(rle).astype(bool) for rle in a["segmentations"]]
        for a in content["annotations"]
        if a["video_id"] == content["videos"][0]["id"]
    ]


@pytest.fixture
def video(shapes, tmp_path):
    """The six frames of a validation video whose annotations are known."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for path in sorted((shapes / "valid/JPEGImages/valid_0000").iterdir())[:6]:
        (folder / path.name).symlink_to(path)
    return folder


# --- tracks -----------------------------------------------------------------------------------


@pytest.fixture
def red_video(tmp_path):
    """A video whose red square is there in frames 2-5 and 8-10 of 12, and a model that finds it."""
    path = tmp_path / "red.mp4"
    with VideoWriter(path, 10, (90, 70)) as writer:
        for number in range(12):
            writer.write(make_frame(number, red=number in (2, 3, 4, 5, 8, 9, 10)))
    return path, *write_inputs(tmp_path, score=0.9)


def test_contact_sheet_has_the_tracks_in_its_frames(tool, red_video, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    options = ["--frames", 4, "--columns", 2, "--width", 180, "--out", out]
    tool("analysis_tools/show_contact_sheet", *red_video, *options)
    assert f"wrote {out}" in capsys.readouterr().out
    sheet = cv2.imread(str(out))
    caption = text_height(caption_size(180))
    assert sheet.shape == (2 * (caption + 140 + GAP), 2 * 184 + GAP, 3)
    expected = 0.45 * np.array(track_color(0)) + 0.55 * np.array((0, 0, 255))
    for i, frame in enumerate((0, 4, 7, 11)):
        x, y = GAP + i % 2 * 184, (i // 2) * (caption + 140 + GAP) + caption
        centre = sheet[y + 70, x + 2 * (20 + 3 * frame)].astype(float)
        if frame == 4:
            assert np.abs(centre - expected).max() < 40
        else:
            assert np.abs(centre - 100).max() < 12  # the plain frame


@pytest.mark.parametrize("part, count", [({}, 7), ({"start": 1, "stride": 2}, 3)])
def test_file_that_does_not_tell_its_number_of_frames(tmp_path, part, count):
    path = tmp_path / "a.mkv"
    write_file(path, 7)
    with open_whole_video(path, **part) as reader:
        assert reader.num_frames == count == len(list(reader))


def test_demo_draws_trails(red_video, tmp_path):
    demo = load_script("demo/video_demo.py")
    frames = {}
    for trails in (0, 3):
        out = tmp_path / f"{trails}.mp4"
        options = ["--trails", str(trails), "--enlarge", "4", "--out", str(out)]
        assert demo.main([*map(str, red_video), *options]) == 0
        frames[trails] = list(VideoReader(out))
    difference = np.abs(frames[3][5].astype(int) - frames[0][5]).max(axis=-1)
    # From the centre in frame 2 to that in frame 5.
    left, right = (4 * (20 + 3 * frame) for frame in (2, 5))
    assert (difference[138:143, left + 4 : right - 4].max(axis=0) > 40).all()
    assert difference[:, : left - 12].max() < 40 and difference[200:].max() < 40
    with pytest.raises(SystemExit):
        demo.main([*map(str, red_video), "--trails", "-1", "--out", str(tmp_path / "x.mp4")])


@pytest.mark.parametrize("name", ["results.json", "tracks.csv"])
def test_timeline_of_a_missing_table(tool, tmp_path, capsys, name):
    source, out = tmp_path / name, tmp_path / "timeline.png"
    with pytest.raises(SystemExit):
        tool("analysis_tools/show_timeline", source, "--out", out)
    assert f"{source}: there is no such file or folder" in capsys.readouterr().err


def bars_of(path, color):
    """Runs of columns with a colour, in a row of the plot without letters."""
    picture = cv2.imread(str(path))
    is_bar = (picture == color).all(axis=-1)
    columns = is_bar[np.flatnonzero(is_bar.any(axis=1))[1]]  # its upper rim
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns, [0]])))
    return edges.reshape(-1, 2)


def check_bars(runs):
    (a, b), (c, d) = runs.tolist()
    frame = (d - a) / 9  # from frame 2 to the end of frame 10
    np.testing.assert_allclose([b - a, c - b, d - c], [4 * frame, 2 * frame, 3 * frame], atol=2)


def test_timeline_of_a_video_of_its_table_and_of_its_results(tool, red_video, tmp_path):
    out = tmp_path / "timeline.png"
    tool("analysis_tools/show_timeline", *red_video, "--out", out)
    check_bars(bars_of(out, track_color(0)))

    table, results = tmp_path / "tracks.csv", tmp_path / "results.json"
    with (
        VISInferencer(*red_video[1:]) as inferencer,
        CSVSink(table) as csv,
        JSONSink(results) as json_sink,
    ):
        for result in inferencer(red_video[0]):
            csv.write(result)
            json_sink.write(result)
    # Its identity gives the colour.
    table.write_text(table.read_text().replace("\n0,", "\n9,"))
    tool("analysis_tools/show_timeline", table, "--frames", 12, "--out", out)
    check_bars(bars_of(out, track_color(9)))
    tool("analysis_tools/show_timeline", results, "--out", out)
    check_bars(bars_of(out, track_color(0)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.mp4", "maskprop_r18_shapes"], "gone.mp4: there is no such file"),
        (["gone.csv"], "gone.csv"),
        ([ROOT / "weights", "no_such_config"], "no such config"),
    ],
)
def test_wrong_input_is_one_line(tool, tmp_path, capsys, arguments, message):
    out = tmp_path / "out.png"
    with pytest.raises(SystemExit):
        tool("analysis_tools/show_timeline", *arguments, "--out", out)
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert printed.startswith("error: ") and message in printed
    assert not out.exists()


# --- MaskProp ---------------------------------------------------------------------------------


def test_propagated_features_are_where_the_objects_are(tool, shapes, video, tmp_path):
    out = tmp_path / "features.png"
    options = ["--at", 2, "--frames", 6, "--columns", 6, "--width", WIDTH, "--out", out]
    tool("analysis_tools/inspect_model", video, "maskprop_r18_shapes", *options)
    row = CAPTION + 2 * GAP + CAPTION + HEIGHT + GAP
    num_sections = cv2.imread(str(out)).shape[0] // row
    plain, *instances = tiles(out, [6] * num_sections, 6)
    for picture, path in zip(plain, sorted(video.iterdir()), strict=True):
        np.testing.assert_array_equal(picture, cv2.imread(str(path)))

    objects = ground_truth(shapes)
    found = set()
    for pictures in instances:
        heat = [colorfulness(picture) for picture in pictures]
        present = [i for i, masks in enumerate(objects) if masks[2] is not None]
        means = {i: heat[2][objects[i][2]].mean() for i in present}
        this = max(means, key=means.get)
        if objects[this][2].sum() < 150:  # smaller than the grid can show
            continue
        found.add(this)
        # In all frames around the key frame, the features are on this object.
        for t in (1, 2, 3):
            mask = objects[this][t]
            if mask is not None:
                assert heat[t][mask].mean() > 3 * heat[t][~mask].mean()
    large = {i for i in present if objects[i][2].sum() > 400}
    assert large <= found


def test_key_frame_at_the_end_of_the_video(tool, video, tmp_path):
    out = tmp_path / "features.png"
    options = ["--at", 5, "--frames", 3, "--channel", 7, "--out", out]
    tool("analysis_tools/inspect_model", video, "maskprop_r18_shapes", *options)
    assert cv2.imread(str(out)).std() > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at", 6], "--at 6: the video has frames 0 to 5"),
        (["--channel", 9999], "there is no channel 9999"),
        (["--score-thr", 1], "frame 3: no instance scores 1"),
        (["--end", 2, "--start", 4], "frames count from 0"),
    ],
)
def test_what_maskprop_cannot_show_is_said(tool, video, tmp_path, capsys, options, message):
    out = tmp_path / "out.png"
    with pytest.raises(SystemExit):
        tool(
            "analysis_tools/inspect_model",
            *(video, "maskprop_r18_shapes", *options, "--out", out),
        )
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_flow_has_no_features(tool, video, tmp_path, capsys):
    arguments = video, "maskprop_r18_flow_shapes", ROOT / "weights/maskprop_r18_shapes.pth"
    with pytest.raises(SystemExit):
        tool("analysis_tools/inspect_model", *arguments, "--out", tmp_path / "out.png")
    assert "FlowPropagation propagates no features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("stmask_r18_shapes", ["--channel", 3], "--channel does not apply to a STMask"),
        ("masktrack_rcnn_r18_shapes", [], "no pictures of the inside of a Streaming"),
    ],
)
def test_what_a_method_does_not_have_is_said(
    tool, video, tmp_path, capsys, config, options, message
):
    with pytest.raises(SystemExit):
        arguments = video, config, "--untrained", *options, "--out", tmp_path / "out.png"
        tool("analysis_tools/inspect_model", *arguments)
    assert message in capsys.readouterr().err


# --- STMask -----------------------------------------------------------------------------------


def test_prototypes_are_those_of_the_frame(tool, video, tmp_path):
    out = tmp_path / "prototypes.png"
    torch.manual_seed(0)
    model = build_video_segmentor("stmask_r18_shapes", require_weights=False)
    checkpoint = tmp_path / "random.pth"
    meta = {"dataset_meta": {"classes": model.dataset_meta["classes"]}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, checkpoint)
    options = ["--at", 2, "--frames", 2, "--columns", 4, "--width", WIDTH, "--instances", 3]
    tool(
        "analysis_tools/inspect_model",
        *(video, "stmask_r18_shapes", checkpoint, *options, "--out", out),
    )

    with torch.no_grad(), VideoReader(video) as reader:
        frame = list(model_frames(model, reader, 3))[2]
        prototypes = model.detector.outputs(model.detector.extract_feat(frame.inputs)).prototypes[0]
    shifts, pictures = tiles(out, [2, len(prototypes)], 4)
    plain = [cv2.imread(str(path)) for path in sorted(video.iterdir())[2:4]]
    for picture, original in zip(shifts, plain, strict=True):
        assert (picture == original).all(axis=-1).mean() > 0.3  # boxes and arrows are on it
    for picture, prototype in zip(pictures, prototypes.numpy(), strict=True):
        cell = HEIGHT // prototype.shape[0]
        cells = np.kron(prototype / prototype.max(), np.ones((cell, cell)))
        seen = brightness(picture)
        assert seen[cells > 0.7].mean() > np.median(seen[cells < 0.1]) + 40


def test_shift_is_an_arrow_from_box_to_box():
    image = np.full((96, 128, 3), 90, np.uint8)
    # The frame is 96 x 128 in 128 x 256, so that half of the width is padding.
    frame = ModelFrame(image, torch.zeros(1, 3, 128, 256), {"img_shape": (96, 128)})
    before = InstanceData(bboxes=torch.tensor([[10 / 256, 20 / 128, 40 / 256, 50 / 128]]))
    carried = InstanceData(
        bboxes=torch.tensor([[70 / 256, 20 / 128, 110 / 256, 50 / 128]]), ids=torch.tensor([5])
    )
    view = stmask.shifts(before, carried, frame, 7)
    ((start, end),) = view.arrows
    assert (view.number, start.identity, start.bold, end.identity, end.bold) == (
        7,
        5,
        False,
        5,
        True,
    )
    np.testing.assert_allclose(start.corners, [10 / 128, 20 / 96, 40 / 128, 50 / 96])
    np.testing.assert_allclose(end.corners, [70 / 128, 20 / 96, 110 / 128, 50 / 96])


def test_boxes_and_arrows_are_drawn_where_they_are():
    picture, color = np.full((96, 128, 3), 90, np.uint8), (1, 2, 3)
    old, new = (
        np.array([x1 / 128, 20 / 96, x2 / 128, 50 / 96]) for x1, x2 in ((10, 40), (70, 110))
    )
    draw_box(picture, old, color, bold=False)
    draw_box(picture, new, color, bold=True)
    draw_arrow(picture, old, new, color)
    drawn = (picture == color).all(axis=-1)
    assert drawn[35, 26:89].all()  # along the way of the centre
    assert drawn[20:50, 10].all() and not drawn[22:30, 12:38].any()  # thin, empty box
    assert drawn[20:50, 69:71].all() and drawn[20:22, 70:110].all()  # bold box
    assert not drawn[60:].any() and (picture[~drawn] == 90).all()


# --- EfficientVIS -----------------------------------------------------------------------------


def test_tracklet_features_of_a_later_clip_are_those_of_the_stream(video):
    torch.manual_seed(0)
    options = {"model.clip_length": 3}
    model = build_video_segmentor(
        "efficientvis_r18_shapes", cfg_options=options, require_weights=False
    )
    state, streamed = model.start_video({}), []
    with torch.no_grad(), VideoReader(video) as reader:
        for frame in model_frames(model, reader, 6):
            streamed += model.step(state, frame.inputs, [frame.meta])
    with torch.no_grad(), VideoReader(video) as reader:
        source = InspectedVideo("video", 6, lambda stop: model_frames(model, reader, stop))
        frames, tracklets, ids, features, predictions = efficientvis.segment_clip(model, source, 3)
    assert len(frames) == 3 and len(streamed) == 6
    for t in range(3):
        rows = tracklets.present[:, t]
        expected = streamed[3 + t].pred_track_instances
        torch.testing.assert_close(ids[rows], expected.instances_id)
        torch.testing.assert_close(tracklets.boxes[rows, t], expected.bboxes)
    # The masks that the last stage predicts are of these features.
    masks = model.tracklet_head.stages[-1].segment(features)
    torch.testing.assert_close(masks, predictions.masks)


def test_tracklet_is_bright_where_it_is_active_in_its_proposal(video):
    """The brightest place on the sheet is inside a box and has the value 1."""
    torch.manual_seed(0)
    options = {"model.clip_length": 3}
    model = build_video_segmentor("efficientvis_r18_shapes", cfg_options=options)
    with VideoReader(video) as reader:
        found = inspect_model(model, reader, 1, count=3)
    views = [view for group in found.groups[1:] for view in group.views]
    assert max(view.heat.max() for view in views) == pytest.approx(1, abs=0.1)
    for view in views:
        x1, y1, x2, y2 = view.boxes[0].corners * np.tile(view.heat.shape[::-1], 2)
        ys, xs = np.nonzero(view.heat > 0)
        if view.boxes[0].bold:
            assert len(xs) > 20
        assert not len(xs) or (xs.min() >= x1 - 1 and xs.max() <= x2 and ys.max() <= y2)


def test_tracklet_features_from_the_command_line(tool, video, tmp_path):
    out = tmp_path / "tracklets.png"
    options = ["--untrained", "--at", 2, "--frames", 3, "--instances", 2, "--width", WIDTH]
    tool(
        "analysis_tools/inspect_model",
        *(video, "efficientvis_r18_spatial-attention_shapes", *options, "--columns", 3),
        *("--out", out),
    )
    plain, *sections = tiles(out, [3, 3], 3)
    first = cv2.imread(str(sorted(video.iterdir())[0]))
    np.testing.assert_array_equal(plain[0], first)
    # Without training the proposal is the frame; its rim is in the colour of an identity.
    rim = [tuple(picture[0, 64].tolist()) for picture in sections[0]]
    assert len(set(rim)) == 1 and rim[0] in {track_color(i) for i in range(32)}


# --- SeqFormer and MS-STS VIS -----------------------------------------------------------------


@pytest.fixture(scope="module")
def looks(shapes):
    """Where the queries of a model with MS-STS attention look, and what was recorded of it."""
    from mmengine.config import Config

    cfg = Config.fromfile(str(ROOT / "configs/mssts/seqformer_r18_shapes.py"))
    cfg.model.encoder.ms_sts = dict(type="MSSTSAttention")
    torch.manual_seed(0)
    model = build_video_segmentor(cfg, require_weights=False)
    with torch.no_grad():
        for parameter in model.decoder.parameters():  # offsets and weights start at zero
            parameter.add_(0.02 * torch.randn_like(parameter))
        images = sorted((shapes / "valid/JPEGImages/valid_0000").iterdir())[:4]
        with VideoReader([cv2.imread(str(path)) for path in images]) as reader:
            frames = list(model_frames(model, reader, 4))
        attention = model.decoder.layers[-1].cross_attention
        intra = model.encoder.layers[-1].ms_sts.intra
        with (
            recorded(attention) as sampled,
            recorded(attention.value_proj) as values,
            recorded(intra.in_proj) as projected,
            recorded(model.encoder) as encoded,
        ):
            found = mssts.look(model, frames)
    return model, found, sampled[0], values[0], projected[0], encoded[0]


def test_points_and_weights_are_those_the_model_samples(looks):
    model, found, sampled, values, _, encoded = looks
    attention = model.decoder.layers[-1].cross_attention
    shape = attention.num_heads, attention.num_levels, attention.num_points
    expected = multi_scale_deformable_attn_pytorch(
        values[0].unflatten(-1, (attention.num_heads, -1)),
        encoded.levels.shapes,
        found.points.unflatten(2, shape),
        found.weights.unflatten(2, shape),
    )
    torch.testing.assert_close(sampled[0], expected, rtol=1e-3, atol=1e-5)
    heads = found.weights.unflatten(2, (shape[0], -1)).sum(-1)
    torch.testing.assert_close(heads, torch.ones_like(heads))
    total = found.frame_weights.sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))
    assert found.frame_weights.std() > 0


def test_attention_over_time_is_that_of_each_position(looks):
    model, found, _, _, projected, encoded = looks
    num_heads = model.encoder.layers[-1].ms_sts.intra.num_heads
    height, width = encoded.levels.shapes[0]
    assert found.over_time.shape == (4, 4, height, width)
    for y, x, t in ((0, 0, 0), (height - 1, 2, 3), (3, width - 1, 1)):
        query, key, _ = projected[0, :, y * width + x].chunk(3, dim=-1)
        per_head = []
        for q, k in zip(query.chunk(num_heads, -1), key.chunk(num_heads, -1), strict=True):
            per_head.append((q[t] @ k.T / q.shape[-1] ** 0.5).softmax(-1))
        expected = torch.stack(per_head).mean(0)
        torch.testing.assert_close(found.over_time[t, :, y, x], expected, rtol=1e-3, atol=1e-5)


def test_best_queries_are_the_best_tracks_once_each(looks):
    model = looks[0]
    scores = torch.zeros(5, model.decoder.num_classes)
    scores[3, 1], scores[3, 0], scores[0, 2] = 0.9, 0.8, 0.7
    chosen = mssts.best_queries(model, scores, 2)
    assert chosen == [(3, 0, 1), (0, 2, 2)]  # query, rank among the tracks, class


def test_points_are_drawn_where_they_are_brighter_with_more_weight():
    picture = np.full((100, 200, 3), 120, np.uint8)
    points = np.array([[0.25, 0.5], [0.75, 0.2], [5.0, -7.0]])
    drawn = brightness(draw_points(picture, points, np.array([1.0, 0.1, 0.5])))
    assert drawn[50, 50] > 200 and 10 < drawn[20, 150] < 60
    background = np.ones_like(drawn, bool)
    background[45:56, 45:56] = background[15:26, 145:156] = False
    assert np.ptp(drawn[background]) == 0

    bars = draw_bars(np.array([0.1, 0.4, 0.2]), (80, 90, 3), (1, 2, 3))
    heights = (bars == (1, 2, 3)).all(axis=-1).sum(axis=0)
    assert heights[[15, 45, 75]].tolist() == [20, 80, 40]


@pytest.mark.parametrize("key, first", [(1, 0), (20, 17), (29, 24)])
def test_of_a_long_video_a_window_is_held(key, first):
    images, most = [], 0

    def read(stop):
        nonlocal most
        for number in range(stop):
            image = np.full((1, 1, 3), number)
            images.append(weakref.ref(image))
            yield ModelFrame(image, None, {})
            del image
            most = max(most, sum(ref() is not None for ref in images))

    model = SimpleNamespace(windows=SimpleNamespace(length=6))
    found, frames = mssts.read_window(model, InspectedVideo("video", 30, read), key)
    assert found == first
    assert [frame.image[0, 0, 0] for frame in frames] == list(range(first, first + 6))
    assert most <= 6 + 1


def test_sampling_points_from_the_command_line(tool, video, tmp_path):
    out = tmp_path / "points.png"
    options = ["--untrained", "--frames", 2, "--instances", 2, "--columns", 3, "--width", WIDTH]
    tool("analysis_tools/inspect_model", video, "seqformer_r18_shapes", *options, "--out", out)
    _, *sections = tiles(out, [2, 3, 3], 3)
    for pictures in sections:
        *frames, bars = pictures
        assert all(brightness(frame).max() > 200 for frame in frames)  # points
        colors = {tuple(color) for color in bars.reshape(-1, 3).tolist()}
        assert len(colors) == 2 and colors & {track_color(i) for i in range(10)}
