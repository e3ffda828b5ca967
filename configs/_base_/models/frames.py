# How every model takes frames: BGR, normalised with ImageNet's means, padded to multiples of 32.
_frames = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_mask=True,
    pad_size_divisor=32,
)
