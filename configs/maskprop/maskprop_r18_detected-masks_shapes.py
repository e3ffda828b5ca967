# A track's mask in a frame is that of the detector's mask head, not the propagated one.
_base_ = "./maskprop_r18_shapes.py"

model = dict(key_masks="detected")
