# Windows of 20 frames that begin 10 frames apart; the weights are those of the base.
_base_ = "../ifc_r50_ytvis19.py"

model = dict(windows=dict(length=20, stride=10))
