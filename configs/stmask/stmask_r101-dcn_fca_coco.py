# See stmask_r101-dcn_fca_ytvis19.py.
_base_ = "./stmask_r101-dcn_fca-ada_coco.py"

model = dict(bbox_head=dict(fcb=dict(cls=None)))
