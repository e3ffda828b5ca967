# Without feature calibration: three anchors, all kernels 3 x 3.
_base_ = "./stmask_r18_fca-image_shapes.py"

model = dict(
    bbox_head=dict(
        kernel_sizes=((3, 3), (3, 3), (3, 3)),
        anchor_sizes=((3, 3), (4.2426, 2.1213), (2.1213, 4.2426)),
    )
)
