# Table 1d: the tracklets of neighbouring clips are linked by rules; tests the weights of the config
# that it inherits from.
_base_ = "./efficientvis_r50_t18_ytvis19.py"

model = dict(linking=dict(_delete_=True, type="HandCraftLinking", min_affinity=0.5))
