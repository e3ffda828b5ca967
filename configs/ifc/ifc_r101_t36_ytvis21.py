# IFC R-101 on YouTube-VIS 2021, offline.
_base_ = "./ifc_r101_ytvis21.py"

model = dict(windows=dict(length=36, stride=18))
