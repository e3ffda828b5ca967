import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmvis_plugin.datasets.converters import ConversionError, convert_cvat
from mmvis_plugin.datasets.converters.cvat import interpolate_polygon

from .cases import HEIGHT, WIDTH, box_mask, named_tracks, write_frames

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
        stop=start + step * (size - 1),
        frame_filter=f"step={step}" if step > 1 else "",
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
        numbers = range(start, start + step * size, step)
        names = names or [f"frame_{number:06d}.png" for number in numbers]
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
    assert [c["name"] for c in content["categories"]] == ["dog", "cat"]
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


# --- polygons: the definition corner by corner ---------------------------------------------------


def slow_interpolation(first, second, offset):
    first, second = [*first, first[0]], [*second, second[0]]

    def length(corners):
        return sum(math.dist(a, b) for a, b in zip(corners, corners[1:], strict=False))

    def shares(corners):
        return [length(corners[: i + 1]) / length(corners) for i in range(len(corners))]

    def nearest(value, values):
        return min(range(len(values)), key=lambda i: abs(value - values[i]))

    at, there = shares(first), shares(second)
    matched = {i: [nearest(at[i], there)] for i in range(len(first))}
    taken = {j for group in matched.values() for j in group}
    for j in range(len(second)):
        if j not in taken:
            matched[nearest(there[j], at)].append(j)

    def moved(i, j):
        return tuple(a + (b - a) * offset for a, b in zip(first[i], second[j], strict=True))

    def thinned(points, threshold):
        kept = points[:1]
        for point in points[1:-1]:
            if math.dist(point, kept[-1]) >= threshold:
                kept.append(point)
        kept += points[-1:] if len(points) > 1 else []
        if len(kept) == 2 and math.dist(*kept) < threshold:
            return [tuple((a + b) / 2 for a, b in zip(*kept, strict=True))]
        return kept

    result, i = [], 0
    while i < len(first):
        group = sorted(matched[i])
        if len(group) > 1:
            corners, points = second[group[0] : group[-1] + 1], [moved(i, j) for j in group]
            i += 1
        else:
            start = i
            while i < len(first) and matched[i] == matched[start]:
                i += 1
            corners, points = first[start:i], [moved(k, group[0]) for k in range(start, i)]
        result += thinned(points, length(corners) / (2 * len(corners)))
    return result[:-1]


hundredths = st.integers(0, 10_000).map(lambda n: n / 100)
corner = st.tuples(hundredths, hundredths)
corners = st.lists(corner, min_size=3, max_size=9, unique=True)


@settings(deadline=None, max_examples=200)
@given(corners, corners, st.floats(0.01, 0.99))
def test_polygons_follow_the_definition(first, second, offset):
    assume(not _has_ties(first, second))  # which rounding would decide
    # So it would whether two corners that meet in one are closer than a quarter of their edge.
    assume(min(abs(offset - 0.25), abs(offset - 0.75)) > 1e-9)
    expected = slow_interpolation(first, second, offset)
    found = interpolate_polygon(np.array(first), np.array(second), offset)
    np.testing.assert_allclose(found, np.reshape(expected, (-1, 2)), atol=1e-9)


def test_polygons_with_a_corner_twice_follow_the_definition():
    first = [(8, 4), (6, 7), (6, 4), (9, 8), (0, 5), (8, 0), (3, 5), (3, 6), (9, 3), (7, 1)]
    second = [(4, 0), (4, 0), (8, 9), (0, 8), (7, 3), (7, 9), (7, 6), (3, 6), (7, 7), (2, 4)]
    found = interpolate_polygon(np.array(first, float), np.array(second, float), 0.4)
    np.testing.assert_allclose(found, slow_interpolation(first, second, 0.4), atol=1e-9)


def _has_ties(first, second):
    outlines = []
    for polygon in (first, second):
        sides = [math.dist(a, b) for a, b in zip(polygon, [*polygon[1:], polygon[0]], strict=True)]
        outlines.append(np.cumsum([0, *sides]) / sum(sides))
    distances = np.abs(outlines[0][:, None] - outlines[1])
    return any(
        len(row) > 1 and np.diff(np.sort(row)[:2])[0] < 1e-9 for row in [*distances, *distances.T]
    )


def test_polygons_that_only_move_keep_their_corners():
    star = np.array([(5, 0), (6, 4), (10, 5), (6, 6), (5, 10), (4, 6), (0, 5), (4, 4)], float)
    found = interpolate_polygon(star, star + (12, 8), 0.25)
    np.testing.assert_allclose(found, star + (3, 2))


def test_polygons_of_unlike_corners_are_drawn(export):
    square = [(4, 4), (12, 4), (12, 12), (4, 12)]
    more = [(14, 4), (18, 4), (22, 4), (22, 12), (14, 12)]
    ((_, masks),) = named_tracks(
        export(track(polygon(0, square), polygon(2, more), polygon(3, more, outside=1))).content
    )
    assert presence(masks) == [True] * 3 + [False] * 3
    assert np.array_equal(masks[1], box_mask(9, 4, 8, 8))


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
        ([box(0, 1, 1, 5, 5), polygon(3, [(1, 1), (5, 5), (1, 5)])], "changes from box in frame 0"),
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
        (dict(names=["frame_000000.png"]), r"no image of frame 1 \(5 of 6 frames are missing\)"),
        (dict(names=["a.png", "b.png"]), "the task has 6 frames, but .* has 2 images"),
        (dict(size=0, names=["a.png"]), "the task has 0 frames"),
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
        (xml(track(box(0, 1, 1, 5, 5), label="owl")), "class 'owl' is not among dog, cat"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, text, message):
    write_frames(tmp_path / "clip", [f"{t}.jpg" for t in range(6)])
    (tmp_path / "clip.xml").write_text(text)
    with pytest.raises(ConversionError, match=message):
        convert_cvat([tmp_path / "clip.xml"], tmp_path)
    with pytest.raises(OSError):
        convert_cvat([tmp_path / "gone.xml"], tmp_path)
