# Calibration for boxes by alignment, on the mask and track branches. Table 4, sixth row.
_base_ = "./stmask_r101-dcn_fca-ada-160k_ytvis19.py"

model = dict(detector=dict(bbox_head=dict(fcb=dict(cls=None, mask="ali", track="ali"))))
