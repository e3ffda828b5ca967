# Without feature calibration for boxes.
_base_ = "../stmask_r18_image_shapes.py"

model = dict(bbox_head=dict(fcb=dict(cls=None)))
