"""Identity colours: stable per id, distinct also for colour-blind viewers."""

import numpy as np

# RGB. The first seven are Okabe and Ito's for colour-blind readers, without their black. Each of
# the others was chosen among saturated colours that are neither very dark nor very light (CIELAB
# L* 30 to 93, chroma above 30) as the one farthest from all before it, by CIEDE2000, as the kind
# of viewer sees it who tells them apart worst. It is a table and not computed, so that no library's
# rounding ever changes the colour of an identity.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (150, 0, 30),
    (165, 240, 210),
    (120, 45, 90),
    (135, 240, 255),
    (180, 195, 135),
    (30, 105, 75),
    (60, 135, 255),
    (60, 0, 225),
    (195, 15, 0),
    (225, 150, 165),
    (0, 135, 120),
    (195, 0, 75),
    (225, 240, 165),
    (90, 45, 150),
    (255, 30, 105),
    (90, 210, 195),
    (150, 75, 135),
    (210, 0, 180),
    (120, 45, 255),
    (195, 210, 105),
    (180, 60, 105),
    (90, 195, 210),
    (210, 150, 90),
    (45, 150, 45),
    (135, 255, 240),
)
NUM_COLORS = len(PALETTE)


def track_color(instance_id: int) -> tuple[int, int, int]:
    """Colour of an identity, the same in every frame, video and run.

    Args:
        instance_id: Identity, 0 or more. Ids 32 apart share a colour. The smallest CIEDE2000
            distance of two colours, for normal, protanopic and deuteranopic viewers alike, is 11.6
            among the first 16, 10.7 among the first 20 and 7.7 among all 32.

    Returns:
        tuple[int, int, int]: Blue, green, red, each 0 to 255.
    """
    return PALETTE[instance_id % NUM_COLORS][::-1]


def track_palette() -> np.ndarray:
    """All identity colours: (32, 3) uint8 array, BGR."""
    return np.array(PALETTE, np.uint8)[:, ::-1]


def ink_on(color: tuple[int, int, int]) -> int:
    """Grey value of letters on a colour: black (0) or white (255), whichever contrasts more.

    Args:
        color: Blue, green, red, each 0 to 255.

    Returns:
        int: The contrast ratio (WCAG 2) is 4.5 or more whatever the colour.
    """
    channels = np.asarray(color) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.0722, 0.7152, 0.2126)
    return 0 if luminance > 0.179 else 255
