# Clips of 17 frames at test time, longer than the paper's best (Figure 6).
_base_ = "../maskprop_r50_ytvis19.py"

model = dict(reach=8)
