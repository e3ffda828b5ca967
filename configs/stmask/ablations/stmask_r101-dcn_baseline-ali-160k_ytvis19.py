# Table 5: the baseline with calibration for boxes (aligned) alone.
_base_ = "./stmask_r101-dcn_baseline-160k_ytvis19.py"

model = dict(detector=dict(bbox_head=dict(fcb=dict(cls=None, mask="ali", track="ali"))))
