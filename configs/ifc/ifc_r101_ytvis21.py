# IFC R-101 on YouTube-VIS 2021, near-online.
_base_ = "./ifc_r50_ytvis21.py"

model = _base_._r101
