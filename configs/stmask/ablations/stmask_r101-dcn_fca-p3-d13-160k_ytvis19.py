# Table 3: fusion on P3 with a window of 13.
_base_ = "./stmask_r101-dcn_fca-160k_ytvis19.py"

model = dict(temporal_fusion=dict(level=0, window=13))
