# A track's mask is the propagated one (d = 0), as in the paper, not the detector's.
_base_ = "../maskprop_r18_shapes.py"

model = dict(key_masks="propagated")
