# Clips of 5 frames at test time, as in Figure 6 of the paper.
_base_ = "../maskprop_r18_shapes.py"

model = dict(reach=2)
