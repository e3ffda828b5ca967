# Windows of 15 frames that begin 8 frames apart; the weights are those of the base.
_base_ = "../ifc_r50_ytvis19.py"

model = dict(windows=dict(length=15, stride=8))
