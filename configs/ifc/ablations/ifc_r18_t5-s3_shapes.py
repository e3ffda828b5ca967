# Windows of 5 frames that begin 3 frames apart; the weights are those of the base.
_base_ = "../ifc_r18_shapes.py"

model = dict(windows=dict(length=5, stride=3))
