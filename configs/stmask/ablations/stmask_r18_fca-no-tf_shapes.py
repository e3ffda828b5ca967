# Without feature calibration for boxes and temporal fusion, from its own image-level weights.
_base_ = "./stmask_r18_fca-ada-no-tf_shapes.py"

model = dict(
    detector=dict(
        bbox_head=dict(fcb=dict(cls=None)),
        init_cfg=dict(
            checkpoint="{{ fileDirname }}/../../../weights/stmask_r18_fca-image_shapes.pth"
        ),
    )
)
