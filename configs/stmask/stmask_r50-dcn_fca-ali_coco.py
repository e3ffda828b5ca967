# See stmask_r50-dcn_fca-ali_ytvis19.py.
_base_ = "./stmask_r50-dcn_fca-ada_coco.py"

model = dict(bbox_head=dict(fcb=dict(cls="ali")))
