# Feature calibration for boxes by alignment.
_base_ = "./stmask_r50-dcn_fca-ada_ytvis19.py"

model = dict(detector=dict(bbox_head=dict(fcb=dict(cls="ali"))))
