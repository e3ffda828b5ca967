# IFC R-101 on OVIS, near-online.
_base_ = "./ifc_r50_ovis.py"

model = _base_._r101
