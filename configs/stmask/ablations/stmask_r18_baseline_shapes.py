# Without feature calibration and temporal fusion, from its own image-level weights.
_base_ = "./stmask_r18_fca-no-tf_shapes.py"

model = dict(
    detector=dict(
        bbox_head=dict(
            kernel_sizes=((3, 3), (3, 3), (3, 3)),
            anchor_sizes=((3, 3), (4.2426, 2.1213), (2.1213, 4.2426)),
        ),
        init_cfg=dict(
            checkpoint="{{ fileDirname }}/../../../weights/stmask_r18_baseline-image_shapes.pth"
        ),
    )
)
