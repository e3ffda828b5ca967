# IFC R-50 on YouTube-VIS 2021, offline.
_base_ = "./ifc_r50_ytvis21.py"

model = dict(windows=dict(length=36, stride=18))
