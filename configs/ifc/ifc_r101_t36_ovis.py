# IFC R-101 on OVIS, offline.
_base_ = "./ifc_r101_ovis.py"

model = dict(windows=dict(length=36, stride=18))
