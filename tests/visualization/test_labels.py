from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvis_plugin.visualization import labels
from mmvis_plugin.visualization.labels import (
    font_size,
    place_label,
    render_text,
    text_height,
    text_width,
    track_text,
    write_label,
)


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def free_somewhere(size, frame_size, taken):
    """Whether any place in the frame is free, by trying all of them."""
    return any(
        not any(overlap((x, y, x + size[0], y + size[1]), other) for other in taken)
        for x in range(frame_size[0] - size[0] + 1)
        for y in range(frame_size[1] - size[1] + 1)
    )


@st.composite
def crowds(draw):
    frame_size = draw(st.integers(20, 60)), draw(st.integers(20, 50))
    boxes, sizes = [], []
    for _ in range(draw(st.integers(1, 12))):
        corners = [
            sorted(draw(st.tuples(*[st.integers(-10, side + 10)] * 2))) for side in frame_size
        ]
        (x1, x2), (y1, y2) = corners
        boxes.append((x1, y1, x2, y2))
        sizes.append((draw(st.integers(3, 20)), draw(st.integers(3, 12))))
    return frame_size, boxes, sizes


@given(crowds())
@settings(max_examples=60, deadline=None)
def test_labels_are_in_the_frame_and_hide_none_where_there_is_room(crowd):
    frame_size, boxes, sizes = crowd
    taken = []
    for box, size in zip(boxes, sizes, strict=True):
        label = place_label(size, box, frame_size, taken)
        assert (label[2] - label[0], label[3] - label[1]) == size
        assert label[0] >= 0 and label[1] >= 0
        assert label[2] <= frame_size[0] and label[3] <= frame_size[1]
        if any(overlap(label, other) for other in taken):
            assert not free_somewhere(size, frame_size, taken)
        taken.append(label)


def test_usual_places_come_first():
    box, size, frame = (40, 40, 80, 70), (20, 8), (200, 100)
    places = []
    for _ in range(8):
        places.append(place_label(size, box, frame, places)[:2])
        places[-1] = (*places[-1], places[-1][0] + size[0], places[-1][1] + size[1])
    corners = [place[:2] for place in places]
    assert corners == [
        *[(40, 32), (60, 32)],  # above
        *[(40, 71), (60, 71)],  # below
        *[(40, 40), (60, 40)],  # in its top
        *[(40, 62), (60, 62)],  # in its bottom
    ]
    # Then as near to the first as there is room.
    assert place_label(size, box, frame, places)[:2] == (40, 24)


@pytest.mark.parametrize("shape", [(72, 96), (96, 72), (360, 640), (1080, 1920), (2160, 3840)])
def test_letters_are_a_fixed_part_of_the_picture_and_never_too_small(shape):
    size = font_size(shape)
    ink = render_text("HIE", size)[..., 0] > 0.5  # capitals without descenders
    rows = np.flatnonzero(ink.any(axis=1))
    capitals = rows[-1] - rows[0] + 1
    assert capitals >= 7
    assert 0.018 * min(shape) <= capitals <= max(8, 0.023 * min(shape))


def test_label_is_cut_off_at_the_rim_and_nothing_else_changes():
    picture = np.full((30, 40, 3), 7, np.uint8)
    write_label(picture, "a long text", (25, 22), 12, (200, 100, 0))
    changed = (picture != 7).any(axis=-1)
    assert changed[22:, 25:].all() and changed.sum() == 8 * 15


@pytest.mark.parametrize("color, ink", [((20, 220, 240), 0), ((120, 10, 30), 255)])
def test_letters_are_black_on_light_and_white_on_dark_colors(color, ink):
    """Each pixel is a mixture of colour and ink by the letters' opacity."""
    picture = np.full((40, 90, 3), 128, np.uint8)
    write_label(picture, "HIE 7", (3, 5), 20, color)
    opacity = render_text("HIE 7", 20)
    height, width = opacity.shape[:2]
    label = picture[5 : 5 + height, 3 : 3 + width]
    seen = opacity[: label.shape[0], : label.shape[1], 0]
    assert (label[seen == 1] == ink).all() and (seen == 1).sum() > 50
    assert (label[seen == 0] == color).all() and (seen == 0).sum() > 50
    mixture = seen[..., None] * ink + (1 - seen[..., None]) * np.array(color)
    assert np.abs(label - mixture).max() <= 0.5 + 1e-3


def test_text_that_does_not_fit_gets_shorter():
    def text(width):
        return track_text("triangle", 12, 0.934, 10, width)

    assert text(500) == "triangle 12 0.93"
    full = text_width("triangle 12 0.93", 10)
    assert text(full) == "triangle 12 0.93" and text(full - 1) == "triangle 12"
    shorter = text(text_width("triangle 12", 10) - 1)
    assert shorter.startswith("trian") and shorter.endswith("\N{HORIZONTAL ELLIPSIS} 12")
    assert text(1) == "12"
    for width in range(text_width("12", 10), 120, 3):
        assert text_width(text(width), 10) <= width
    assert text_height(20) > text_height(10)


@pytest.fixture
def system_fonts(monkeypatch):
    """Function that puts these fonts on this machine, besides the default one."""

    def install(*paths):
        labels._find_font.cache_clear()
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [*paths])

    yield install
    labels._find_font.cache_clear()


def test_letters_that_the_default_font_lacks_are_written_in_another(system_fonts, tmp_path):
    text = "\N{MATHEMATICAL BOLD FRAKTUR CAPITAL A}"
    stix = Path(labels.default_font()).with_name("STIXGeneral.ttf")
    (damaged := tmp_path / "damaged.ttf").write_bytes(b"no font")
    system_fonts(str(damaged), str(stix))
    assert labels.font_file("cow 1") == labels.font_file("K\xf6nig") == labels.default_font()
    assert labels.font_file(text) == str(stix)
    shown, missing = labels.render_text(text, 40), labels.render_text("\uffff", 40)
    assert shown.max() == 1 and shown.shape[0] == labels.text_height(40)
    assert shown.shape != missing.shape or np.abs(shown - missing).max() > 0.5


def test_letters_that_no_font_has_are_told_once(system_fonts, caplog):
    system_fonts()
    for _ in range(3):
        assert labels.font_file("\u884c\u4eba") == labels.default_font()
    (record,) = caplog.records
    assert "\u4eba\u884c" in record.getMessage() and "font" in record.getMessage()


def test_a_font_that_is_named_is_used():
    serif = str(Path(labels.default_font()).with_name("DejaVuSerif.ttf"))
    assert labels.font_file("\u884c", serif) == serif
    assert labels.text_width("cow", 40, serif) != labels.text_width("cow", 40)
    canvas = np.zeros((60, 200, 3), np.uint8)
    labels.write_label(canvas, "cow", (0, 0), 40, (0, 0, 0), serif)
    letters = labels.render_text("cow", 40, serif)
    height, width = letters.shape[:2]
    drawn = canvas[:height, :width].astype(float) / 255
    np.testing.assert_allclose(drawn, np.broadcast_to(letters, drawn.shape), atol=0.01)
