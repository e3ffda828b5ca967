import cv2
import numpy as np

from mmvis_plugin.visualization import track_color, track_palette


def lab(colors_bgr):
    image = (np.asarray(colors_bgr, np.float32) / 255)[None]
    return cv2.cvtColor(image, cv2.COLOR_BGR2LAB)[0]


def smallest_distance(colors_bgr):
    values = lab(colors_bgr)
    distance = np.linalg.norm(values[:, None] - values[None], axis=-1)
    return distance[~np.eye(len(values), dtype=bool)].min()


def test_neighbouring_ids_are_far_apart():
    assert smallest_distance([track_color(i) for i in range(8)]) > 25
    assert smallest_distance([track_color(i) for i in range(31)]) > 12
    assert smallest_distance([track_color(i) for i in range(1000, 1031)]) > 12


def test_colours_stay_apart_for_a_red_blind_viewer():
    # Brettel-type projection: red-blind viewers see by the two remaining cone types.
    colors = np.array([track_color(i) for i in range(24)], float)[:, ::-1] / 255
    seen = (colors**2.2) @ np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ).T
    assert smallest_distance(seen.clip(0, 1)[:, ::-1] ** (1 / 2.2) * 255) > 12


def test_colours_do_not_change():
    # The first colours are Okabe and Ito's; all of them stay what earlier videos were drawn with.
    assert [track_color(i) for i in range(3)] == [(0, 159, 230), (233, 180, 86), (115, 158, 0)]
    pinned = [(255, 0, 75), (180, 75, 30), (165, 135, 240)]
    assert [track_color(i) for i in (7, 15, 31)] == pinned
    assert track_color(40) == track_color(8)
    assert not track_palette().flags.writeable
