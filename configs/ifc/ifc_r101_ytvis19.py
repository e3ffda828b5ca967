# IFC R-101 on YouTube-VIS 2019, near-online.
_base_ = "./ifc_r50_ytvis19.py"

model = _base_._r101
