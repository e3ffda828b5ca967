import cv2
import numpy as np
import pytest

from mmvis_plugin.files import write_picture
from mmvis_plugin.visualization.contact_sheet import (
    GAP,
    Section,
    caption_size,
    contact_sheet,
    resize_picture,
    spread,
)
from mmvis_plugin.visualization.labels import text_height


def pictures(count, shape=(60, 80)):
    return [np.full((*shape, 3), 10 * (i + 1), np.uint8) for i in range(count)]


def test_every_picture_is_in_its_place():
    first = Section(pictures(5), [str(i) for i in range(5)], "one", (200, 100, 0))
    second = Section(pictures(2), ["a", "b"])
    sheet = contact_sheet([first, second], 3)

    caption = text_height(caption_size(80))
    title, row = caption + 2 * GAP, caption + 60 + GAP
    assert sheet.shape == (title + 3 * row, 3 * 84 + GAP, 3)
    band = sheet[GAP : GAP + caption, GAP:-GAP]
    assert (band[:, -1] == (200, 100, 0)).all()  # beside the letters
    tops = [title, title + row, title + 2 * row]
    for i in range(5):
        x, y = GAP + 84 * (i % 3), tops[i // 3] + caption
        np.testing.assert_array_equal(sheet[y : y + 60, x : x + 80], first.pictures[i])
        assert (sheet[y - caption : y, x : x + 80] < 100).any()  # letters
    for i in range(2):
        x, y = GAP + 84 * i, tops[2] + caption
        np.testing.assert_array_equal(sheet[y : y + 60, x : x + 80], second.pictures[i])
    assert (sheet[tops[2] :, GAP + 2 * 84 :] == 255).all()


def test_a_sheet_of_one_small_picture_has_room_for_its_title():
    sheet = contact_sheet([Section(pictures(1, (20, 16)), ["0"], "a title that is long")], 4)
    assert sheet.shape[1] > 80


def test_pictures_must_be_of_one_size():
    with pytest.raises(ValueError, match="one size, got none"):
        contact_sheet([Section()], 3)
    mixed = [Section(pictures(1), ["0"]), Section(pictures(1, (30, 40)), ["1"])]
    with pytest.raises(ValueError, match=r"\(30, 40, 3\), \(60, 80, 3\)"):
        contact_sheet(mixed, 3)


def test_frames_are_spread_over_the_video():
    assert spread(100, 5) == [0, 25, 50, 74, 99]
    assert spread(3, 5) == [0, 1, 2]
    assert spread(7, 1) == [0]


def test_pictures_keep_their_proportions():
    assert resize_picture(pictures(1)[0], 40).shape == (30, 40, 3)
    assert resize_picture(pictures(1)[0], 160).shape == (120, 160, 3)


def test_picture_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "sheet.png"
    write_picture(pictures(3)[2], path)
    np.testing.assert_array_equal(cv2.imread(str(path)), pictures(3)[2])
    assert len(list(path.parent.iterdir())) == 1
    with pytest.raises(ValueError, match="must end in .png"):
        write_picture(pictures(1)[0], tmp_path / "sheet.jpg")
