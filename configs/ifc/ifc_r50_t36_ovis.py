# IFC R-50 on OVIS, offline.
_base_ = "./ifc_r50_ovis.py"

model = dict(windows=dict(length=36, stride=18))
