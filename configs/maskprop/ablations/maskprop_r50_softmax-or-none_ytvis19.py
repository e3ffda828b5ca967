# A constant zero logit in the softmax takes the objects that are none of the instances.
_base_ = "../maskprop_r50_ytvis19.py"

model = dict(propagation_head=dict(competition="softmax_or_none"))
