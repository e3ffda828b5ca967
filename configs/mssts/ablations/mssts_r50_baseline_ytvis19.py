# The baseline of MS-STS VIS's ablation: SeqFormer with 3 encoder and 3 decoder layers.
_base_ = "../seqformer_r50_ytvis19.py"

model = dict(encoder=dict(num_layers=3), decoder=dict(num_layers=3))
