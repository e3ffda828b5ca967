# Without calibration for boxes and temporal fusion: FCA alone. Tables 1, 2, 4 and 5.
_base_ = "./stmask_r101-dcn_fca-160k_ytvis19.py"

model = dict(temporal_fusion=None)
