import math
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest

from mmvis_plugin.datasets.converters import ConversionError, convert_cvat, convert_labelme

from .cases import HEIGHT, WIDTH, box_mask, named_tracks, write_frames, write_json

META = """<task>
      <id>7</id><name>clip</name><size>{size}</size><mode>interpolation</mode><overlap>5</overlap>
      <bugtracker></bugtracker><start_frame>{start}</start_frame>
      <stop_frame>{stop}</stop_frame><frame_filter>{frame_filter}</frame_filter>
      <labels>
        <label><name>dog</name><color>#ff0000</color><type>any</type><attributes></attributes></label>
        <label><name>cat</name><color>#00ff00</color><type>any</type><attributes></attributes></label>
        <label><name>paw</name><color>#0000ff</color><parent>dog</parent></label>
      </labels>
      <original_size><width>{width}</width><height>{height}</height></original_size>
    </task>"""


def xml(*tracks, size=6, start=0, step=1, meta=META, height=HEIGHT, width=WIDTH):
    meta = meta.format(
        size=size,
        start=start,
        stop=start + (size - 1 if isinstance(step, str) else step * (size - 1)),
        frame_filter="" if step == 1 else f"step={step}",
        height=height,
        width=width,
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f"  <meta>\n    {meta}\n    <dumped>2024-01-01 00:00:00+00:00</dumped>\n  </meta>\n"
        + "".join(tracks)
        + "</annotations>\n"
    )


def track(*shapes, id=0, label="cat", group=None):
    group = f' group_id="{group}"' if group else ""
    text = "\n    ".join(shapes)
    return f'  <track id="{id}" label="{label}" source="manual"{group}>\n    {text}\n  </track>\n'


def shape(kind, frame, outside=0, keyframe=1, inner="", **numbers):
    numbers = " ".join(f'{name}="{value}"' for name, value in numbers.items())
    return (
        f'<{kind} frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0" '
        f'{numbers} z_order="0">{inner}</{kind}>'
    )


def box(frame, x, y, right, bottom, outside=0, **more):
    corners = dict(xtl=x, ytl=y, xbr=right, ybr=bottom)
    return shape("box", frame, outside, **corners, **more)


def polygon(frame, points, outside=0):
    return shape("polygon", frame, outside, points=";".join(f"{x:.2f},{y:.2f}" for x, y in points))


def mask(frame, runs, left, top, width, height, outside=0, inner=""):
    rle = ", ".join(map(str, runs))
    numbers = dict(rle=rle, left=left, top=top, width=width, height=height)
    return shape("mask", frame, outside, inner=inner, **numbers)


@pytest.fixture
def export(tmp_path):
    """Function that writes an unpacked export and converts it; frames are named as by CVAT."""

    def run(*tracks, identity="track", names=None, frame_size=(HEIGHT, WIDTH), **task):
        folder = tmp_path / "clip"
        start, step, size = (task.get(k, d) for k, d in (("start", 0), ("step", 1), ("size", 6)))
        if not names:
            step = 1 if isinstance(step, str) else step
            names = [f"frame_{t:06d}.png" for t in range(start, start + step * size, step)]
        write_frames(folder / "images", names, *frame_size)
        (folder / "annotations.xml").write_text(xml(*tracks, **task))
        return convert_cvat([folder], tmp_path, identity=identity)

    run.root = tmp_path
    return run


def presence(masks):
    return masks.any(axis=(1, 2)).tolist()


def test_boxes_are_interpolated_end_and_return(export, usable):
    conversion = export(
        track(
            box(0, 2, 3, 10, 9),
            box(2, 6, 3, 14, 9),
            box(3, 6, 3, 14, 9, outside=1),
            box(5, 20, 10, 30, 20),
        ),
        track(box(1, 0, 0, 4, 4), id=1, label="dog"),
    )
    content = conversion.content
    assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
    names = [f"clip/images/frame_{t:06d}.png" for t in range(6)]
    assert content["videos"][0]["file_names"] == names
    (first, cat), (second, dog) = named_tracks(content)
    assert first[1] == "cat" and second[1] == "dog"
    expected = [
        *(box_mask(x, 3, 8, 6) for x in (2, 4, 6)),
        *[box_mask(0, 0, 0, 0)] * 2,
        box_mask(20, 10, 10, 10),
    ]
    assert np.array_equal(cat, expected)
    assert presence(dog) == [False, *[True] * 5]  # its last shape lasts to the end
    assert np.array_equal(dog[5], box_mask(0, 0, 4, 4))
    usable(conversion, export.root)


def test_listed_frames_are_taken_as_they_are(export):
    """CVAT exports the frames between its key frames, marked keyframe=0."""
    shapes = [box(t, 2 * t, 3, 2 * t + 8, 9, keyframe=int(t == 0)) for t in range(3)]
    ((_, masks),) = named_tracks(export(track(*shapes, box(3, 0, 0, 1, 1, outside=1))).content)
    assert presence(masks) == [True] * 3 + [False] * 3
    assert np.array_equal(masks[2], box_mask(4, 3, 8, 6))


def test_a_shape_that_is_no_track_lasts_one_frame(export):
    """CVAT ends it by an outside copy in the next frame, except that of the last frame."""
    tracks = [
        track(box(0, 1, 1, 5, 5), box(1, 1, 1, 5, 5, outside=1), id=0),
        track(box(4, 1, 1, 5, 5), id=1),
        track(box(5, 1, 1, 5, 5), id=2),
    ]
    found = [presence(masks).index(True) for _, masks in named_tracks(export(*tracks).content)]
    counts = [sum(presence(masks)) for _, masks in named_tracks(export(*tracks).content)]
    assert found == [0, 4, 5] and counts == [1, 1, 1]


def test_frame_step_and_end_beyond_the_last_frame(export):
    boxes = box(10, 0, 0, 8, 8), box(40, 12, 0, 20, 8, outside=1)
    conversion = export(track(*boxes), size=4, start=10, step=5)
    ((_, masks),) = named_tracks(conversion.content)
    expected = [box_mask(x, 0, 8, 8) for x in (0, 2, 4, 6)]
    assert np.array_equal(masks, expected)


def test_rotation_turns_the_shorter_way(export):
    boxes = [box(t, 8, 10, 24, 14, rotation=r) for t, r in ((0, 350), (3, 20), (5, 90))]
    ((_, masks),) = named_tracks(export(track(*boxes)).content)
    assert np.array_equal(masks[1], box_mask(8, 10, 16, 4))  # a third of the way from 350 to 20
    assert np.array_equal(masks[5], box_mask(14, 4, 4, 16))
    rows, columns = np.nonzero(masks[2])  # 10 degrees clockwise: it falls to the right
    assert np.polyfit(columns, rows, 1)[0] == pytest.approx(math.tan(math.radians(10)), abs=0.05)


def test_ellipses(export):
    shapes = [shape("ellipse", 0, cx=16, cy=12, rx=10, ry=5, rotation=0)]
    ((_, masks),) = named_tracks(export(track(*shapes)).content)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected = ((columns - 16) / 10) ** 2 + ((rows - 12) / 5) ** 2 <= 1
    assert (masks[0] ^ expected).sum() <= 8


def test_masks_are_row_by_row_and_never_interpolated(export):
    runs = [1, 2, 1, 4]  # .XX. / XXXX
    tracks = track(
        mask(1, runs, 5, 6, 4, 2), mask(2, runs, 5, 6, 4, 2, outside=1), mask(4, [0, 6], 0, 0, 3, 2)
    )
    conversion = export(tracks)
    ((_, masks),) = named_tracks(conversion.content)
    assert presence(masks) == [False, True, False, False, True, False]
    expected = box_mask(5, 6, 4, 2)
    expected[6, [5, 8]] = False
    assert np.array_equal(masks[1], expected)
    assert np.array_equal(masks[4], box_mask(0, 0, 3, 2))
    assert "CVAT does not track masks" in conversion.notes[0]


def masks_of_one_frame(**where):
    """Masks of two cats in three frames, each a track of its own as CVAT exports them."""
    tracks = []
    for t in range(3):
        for cat in range(2):
            number = f'<attribute name="number">{cat}</attribute>'
            group = cat + 1 if where.get("group") else None
            run = mask(t, [0, 6], 10 * cat + t, 4, 3, 2, inner=number)
            end = mask(t + 1, [0, 6], 10 * cat + t, 4, 3, 2, outside=1, inner=number)
            tracks.append(track(run, end, id=len(tracks), group=group))
    return tracks


@pytest.mark.parametrize("identity", ["group", "attribute:number"])
def test_masks_are_joined_by_group_or_attribute(export, identity):
    assert len(export(*masks_of_one_frame(group=True)).content["annotations"]) == 6
    conversion = export(*masks_of_one_frame(group=True), identity=identity)
    tracks = [masks for _, masks in named_tracks(conversion.content)]
    assert len(tracks) == 2 and not conversion.notes
    for cat, masks in enumerate(tracks):
        expected = [box_mask(10 * cat + t, 4, 3, 2) for t in range(3)]
        assert np.array_equal(masks, [*expected, *[box_mask(0, 0, 0, 0)] * 3])


def test_parts_of_a_group_are_united(export):
    tracks = [
        track(box(0, 0, 0, 4, 4), id=0, group=3),
        track(box(0, 10, 0, 14, 4), id=1, group=3),
        track(box(0, 20, 0, 24, 4), id=2, group=3, label="dog"),
        track(box(0, 20, 10, 24, 14), id=3),
    ]
    found = named_tracks(export(*tracks, identity="group").content)
    assert len(found) == 3
    assert np.array_equal(found[0][1][0], box_mask(0, 0, 4, 4) | box_mask(10, 0, 4, 4))


# --- polygons -----------------------------------------------------------------------------------

SQUARE = [(4, 4), (12, 4), (12, 12), (4, 12)]


def test_polygons_are_taken_as_they_are_listed(export):
    shapes = [polygon(t, [(x + 3 * t, y) for x, y in SQUARE]) for t in range(3)]
    tracks = [
        track(*shapes, polygon(3, SQUARE, outside=1)),
        track(*shapes, id=1),  # lasts to the end
    ]
    (_, ended), (_, lasting) = named_tracks(export(*tracks).content)
    expected = [box_mask(4 + 3 * t, 4, 8, 8) for t in range(3)]
    assert np.array_equal(ended, expected + [box_mask(0, 0, 0, 0)] * 3)
    assert np.array_equal(lasting, expected + [expected[2]] * 3)


def test_polygons_with_frames_missing_between_are_refused(export):
    message = (
        r"track 0 \(cat\): nothing is known between the polygon of frame 0 and the polygon of "
        "frame 2; CVAT's own exports list all frames: import the file into CVAT"
    )
    with pytest.raises(ConversionError, match=message):
        export(track(polygon(0, SQUARE), polygon(2, SQUARE)))


def test_deleted_frames_have_neither_shapes_nor_images(export, usable):
    shapes = [polygon(t, [(x + 3 * t, y) for x, y in SQUARE]) for t in (0, 1, 3, 4, 5)]
    names = [f"frame_{t:06d}.PNG" for t in (0, 1, 3, 4, 5)]
    conversion = export(track(*shapes), names=names)
    assert conversion.content["videos"][0]["file_names"][2] == "clip/images/frame_000003.PNG"
    assert conversion.left_out == {"frames without an image, as of deleted ones": 1}
    ((_, masks),) = named_tracks(conversion.content)
    assert np.array_equal(masks, [box_mask(4 + 3 * t, 4, 8, 8) for t in (0, 1, 3, 4, 5)])
    usable(conversion, export.root)


# --- frames and files ---------------------------------------------------------------------------


def test_frames_of_other_names_are_taken_in_order(export):
    names = [f"img{t}.jpg" for t in range(1, 7)]
    conversion = export(track(box(5, 1, 1, 5, 5)), names=names)
    assert conversion.content["videos"][0]["file_names"][5] == "clip/images/img6.jpg"
    (((_, masks)),) = named_tracks(conversion.content)
    assert presence(masks) == [False] * 5 + [True]


def test_xml_beside_its_frames_and_several_videos(tmp_path, usable):
    for name in ("a", "b"):
        write_frames(tmp_path / "frames" / name, [f"{t}.jpg" for t in range(2)])
        (tmp_path / f"{name}.xml").write_text(xml(track(box(0, 1, 1, 5, 5)), size=2))
    files = [tmp_path / "b.xml", tmp_path / "a.xml"]
    conversion = convert_cvat(files, tmp_path / "frames", classes=["cat", "dog"])
    assert [v["file_names"][0] for v in conversion.content["videos"]] == ["b/0.jpg", "a/0.jpg"]
    assert [c["name"] for c in conversion.content["categories"]] == ["cat", "dog"]
    usable(conversion, tmp_path / "frames")
    with pytest.raises(ConversionError, match="are both of a video a"):
        convert_cvat([tmp_path / "a.xml"] * 2, tmp_path / "frames")


def test_jobs_and_image_tasks(export):
    """A job has <job> for <task>; a task of images has no original_size."""
    meta = META.replace("task>", "job>")
    start, end = meta.index("<original_size>"), meta.index("</original_size>")
    meta = meta[:start] + meta[end + len("</original_size>") :]
    conversion = export(track(box(0, 1, 1, 5, 5)), meta=meta)
    assert conversion.content["videos"][0]["length"] == 6


def test_shapes_without_area_are_left_out(export):
    line = shape("polyline", 0, points="1.00,2.00;3.00,4.00")
    skeleton = '<skeleton frame="0" keyframe="1"><points label="1" points="1,2"/></skeleton>'
    conversion = export(track(line), track(skeleton, id=1), track(box(0, 1, 1, 5, 5), id=2))
    assert len(conversion.content["annotations"]) == 1
    assert conversion.left_out == {
        "tracks of type polyline, which have no mask": 1,
        "tracks of type skeleton, which have no mask": 1,
    }


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([box(0, 1, 1, 5, "x")], r"track 0 \(cat\): <box> of frame 0: could not convert"),
        (['<box frame="0" keyframe="1" outside="0" xtl="1"/>'], "<box> of frame 0: "),
        ([box(0, 1, 1, 5, "nan")], "coordinates must be numbers"),
        ([box(0, 1, 1, 5, "1e12")], "coordinates must be numbers"),
        ([box("a", 1, 1, 5, 5)], "<box> of frame a: invalid literal"),
        ([box(1, 1, 1, 5, 5), box(1, 1, 1, 5, 5)], "there are two shapes in frame 1"),
        ([box(-3, 1, 1, 5, 5)], "the task has no frame -3; its frames are 0 to 5"),
        ([polygon(0, [(1, 1), (5, 5)])], r"track 0 \(cat\): frame 0: a polygon needs three points"),
        ([shape("polygon", 0, points="1,2;3")], "<polygon> of frame 0: "),
        ([shape("polygon", 0)], "<polygon> of frame 0: "),
        ([mask(0, [1, 2], 0, 0, 3, 2)], "the rle has 3 pixels, the mask 3 x 2"),
        ([mask(0, [0, 6, -6, 6], 0, 0, 3, 2)], "the rle has 6 pixels, the mask 3 x 2"),
        ([mask(0, [0, 6], 30, 0, 3, 2)], r"frame 0: the mask, 3 x 2 pixels at \(30, 0\), is not"),
        # Of any of these pycocotools or NumPy would take gigabytes.
        ([mask(0, [0, 10**10], 0, 0, 10**5, 10**5)], "100000 pixels at .*, is not within"),
        ([polygon(0, [(-1e5, -1e5), (1e5, 1e5)] * 20)], "frame 0: the polygons' outline is longer"),
        ([box(0, -4000, -4000, 4000, 4000)], "frame 0: the polygons' outline is longer"),
        ([shape("ellipse", 0, cx=9, cy=9, rx=9e5, ry=9e5)], "the polygons' outline is longer"),
        (
            [box(0, 1, 1, 5, 5), polygon(3, [(1, 1), (5, 5), (1, 5)])],
            "nothing is known between the box of",
        ),
        ([shape("blob", 0)], "<blob> of frame 0: unknown type of shape"),
    ],
)
def test_faulty_shapes_are_named(export, shapes, message):
    with pytest.raises(ConversionError, match=message) as error:
        export(track(*shapes))
    assert "annotations.xml: track 0" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(frame_size=(48, 64)), r"the task's frames are 32 x 24 pixels, but .* is 64 x 48"),
        (dict(names=["frame_000001.png"]), r"track 0 \(cat\): .*images has no image of frame 0"),
        (dict(names=["frame_000009.png"]), "has no image of its frames"),
        (dict(names=["a.png", "b.png"]), "the task has 6 frames, but .* has 2 images"),
        (dict(size=0, names=["a.png"]), "the task has no frames"),
        (dict(size=10**30, names=["a.png"]), "<size> must be a whole number, got '1000"),
        (dict(step="abc"), "<frame_filter> must be empty or step=N with N from 1, got 'step=abc'"),
        (dict(step="1.5"), "got 'step=1.5'"),
        (dict(step="0"), "got 'step=0'"),
        (dict(meta="<task><size>many</size></task>"), "<size> must be a whole number, got 'many'"),
        (dict(meta="<task></task>"), "<size> must be a whole number, got ''"),
        (dict(meta="<project><id>1</id></project>"), "the export of a project: export its tasks"),
        (dict(meta="<other/>"), "neither <task> nor <job>"),
        (dict(identity="attribute:number"), "attribute 'number' must have one value .* got none"),
    ],
)
def test_tasks_that_do_not_fit_are_named(export, arguments, message):
    with pytest.raises(ConversionError, match=message) as error:
        export(track(box(0, 1, 1, 5, 5)), **arguments)
    assert "annotations.xml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid XML"),
        ("<annotations><meta>", "is not valid XML"),
        ("<annotation><size/></annotation>", "the root is <annotation>, not CVAT's"),
        ("<annotations></annotations>", "has no <meta>"),
        ('<annotations><meta/><image id="0"/></annotations>', "neither <task>"),
        (
            '<annotations><image id="0"/></annotations>',
            "exported as 'CVAT for images'",
        ),
        (xml('<track id="0"></track>'), "the track has no label"),
        (
            xml(track(box(0, 1, 1, 5, 5), label="owl")),
            "class 'owl' is not among the classes cat, dog",
        ),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, text, message):
    write_frames(tmp_path / "clip", [f"{t}.jpg" for t in range(6)])
    (tmp_path / "clip.xml").write_text(text)
    with pytest.raises(ConversionError, match=message):
        convert_cvat([tmp_path / "clip.xml"], tmp_path)
    with pytest.raises(OSError):
        convert_cvat([tmp_path / "gone.xml"], tmp_path)


def test_classes_have_the_order_that_they_have_from_labelme(export):
    tracks = track(box(0, 1, 1, 5, 5), label="dog"), track(box(0, 9, 9, 12, 12), id=1)
    content = export(*tracks, size=1).content
    shapes = [
        dict(label=label, points=[[1, 1], [5, 5]], shape_type="rectangle", group_id=1)
        for label in ("dog", "cat")
    ]
    frame = export.root / "clip" / "images" / "frame_000000.json"
    write_json(frame, dict(imagePath="frame_000000.png", shapes=shapes))
    assert convert_labelme(export.root).content["categories"] == content["categories"]


# --- exports as they were downloaded --------------------------------------------------------------


@pytest.fixture
def zipped(tmp_path):
    """Function that writes an export as CVAT's ZIP: annotations.xml and images/frame_000000.PNG."""

    def write(text=None, names=("images/frame_000000.PNG",), name="cats for video 1.1.zip"):
        frame = write_frames(tmp_path / "frames", ["0.png"])[0]
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in names:
                archive.write(frame, member)
            if text is None:
                text = xml(track(box(0, 1, 1, 5, 5)), size=1)
            if text:
                archive.writestr("annotations.xml", text)
        return tmp_path / name

    return write


def test_a_zip_is_read_and_its_frames_are_unpacked(zipped, tmp_path, usable):
    names = ["images/frame_000000.PNG", "images/../../evil.png", "notes.txt"]
    path = zipped(names=names)
    conversion = convert_cvat([path], tmp_path / "data")
    (name,) = conversion.content["videos"][0]["file_names"]
    assert name == "cats for video 1.1/images/frame_000000.PNG"
    assert not list(tmp_path.rglob("../evil.png"))
    usable(conversion, tmp_path / "data")
    (tmp_path / "data" / name).unlink()  # a folder that is there is taken as it is
    with pytest.raises(ConversionError, match="has no image"):
        convert_cvat([path], tmp_path / "data")


def test_frames_beside_a_zip_without_images(zipped, tmp_path):
    path = zipped(names=())
    with pytest.raises(ConversionError, match="video 1.1.zip has no frames: export it with images"):
        convert_cvat([path], tmp_path / "data")
    assert not (tmp_path / "data").exists() or not any((tmp_path / "data").iterdir())
    write_frames(tmp_path / "data" / path.stem, ["0.jpg"])
    assert len(convert_cvat([path], tmp_path / "data").content["annotations"]) == 1


def test_zips_that_cannot_be_used_are_named(zipped, tmp_path, monkeypatch):
    with pytest.raises(ConversionError, match=r"a\.zip has no annotations\.xml"):
        convert_cvat([zipped(text="", name="a.zip")], tmp_path / "data")
    path = zipped(name="b.zip")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"<annotations>", b"<annOtations>"))
    with pytest.raises(ConversionError, match=r"b\.zip cannot be read as a ZIP: Bad CRC"):
        convert_cvat([path], tmp_path / "data")
    path.write_bytes(data)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(ConversionError, match=r"b\.zip: the disk has no room for \d+ bytes"):
        convert_cvat([path], tmp_path / "data")
    assert not list(tmp_path.rglob("*.partial"))


def test_the_memory_for_large_files_is_bounded(tmp_path):
    write_frames(tmp_path / "clip", ["0.png"])
    filler = "<x>" + "<y/>" * 99 + "</x>"
    text = xml(track(box(0, 1, 1, 5, 5)), filler * 5000, size=1)
    (tmp_path / "clip.xml").write_text(text)
    tracemalloc.start()
    convert_cvat([tmp_path / "clip.xml"], tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # the elements are 500,000
