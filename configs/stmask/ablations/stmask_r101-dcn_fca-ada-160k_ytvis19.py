# R-101, deformable in every third block. Table 4 of the paper, fifth row.
_base_ = "./stmask_r50-dcn_fca-ada-160k_ytvis19.py"

model = dict(detector=_base_._r101)
