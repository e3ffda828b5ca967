# Figure 6 of the paper: clips of 11 frames at test time.
_base_ = "../maskprop_r50_ytvis19.py"

model = dict(reach=5)
