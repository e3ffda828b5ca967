# Figure 6 of the paper: clips of 5 frames at test time.
_base_ = "../maskprop_r50_ytvis19.py"

model = dict(reach=2)
