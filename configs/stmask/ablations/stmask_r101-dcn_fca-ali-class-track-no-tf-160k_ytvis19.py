# Table 2: calibration for boxes (ali) on these branches, without temporal fusion.
_base_ = "./stmask_r101-dcn_fca-no-tf-160k_ytvis19.py"

model = dict(detector=dict(bbox_head=dict(fcb=dict(cls="ali", mask=None, track="ali"))))
