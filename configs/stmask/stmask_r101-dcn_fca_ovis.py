# See stmask_r101-dcn_fca_ytvis19.py.
_base_ = "./stmask_r101-dcn_fca-ada_ovis.py"

model = dict(detector=dict(bbox_head=dict(fcb=dict(cls=None))))
