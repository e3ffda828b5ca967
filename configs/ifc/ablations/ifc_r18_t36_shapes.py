# Windows of 36 frames that share 18; the weights are those of the base.
_base_ = "../ifc_r18_shapes.py"

model = dict(windows=dict(length=36, stride=18))
