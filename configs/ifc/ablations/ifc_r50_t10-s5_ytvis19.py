# Windows of 10 frames that begin 5 frames apart; the weights are those of the base.
_base_ = "../ifc_r50_ytvis19.py"

model = dict(windows=dict(length=10, stride=5))
