# Without calibration for boxes. Table 3: fusion on P4 with a window of 11.
_base_ = "./stmask_r101-dcn_fca-ada-160k_ytvis19.py"

model = dict(detector=dict(bbox_head=dict(fcb=dict(cls=None, mask=None, track=None))))
