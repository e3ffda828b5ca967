# Without competition: each instance has its own sigmoid, and the attention map scales logits.
_base_ = "../maskprop_r50_ytvis19.py"

model = dict(propagation_head=dict(competition="sigmoid"))
