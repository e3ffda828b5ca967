# R-101, deformable in every third block.
_base_ = "./stmask_r50-dcn_fca-ada_ytvis19.py"

model = dict(detector=_base_._r101)
