# IFC R-50 on YouTube-VIS 2019, offline: the same weights, windows of 36 frames that share 18.
_base_ = "./ifc_r50_ytvis19.py"

model = dict(windows=dict(length=36, stride=18))
