# The baseline with MS-STS attention in the encoder and temporal attention in the decoder.
_base_ = "./mssts_r50_both_ytvis19.py"

model = dict(decoder=dict(temporal_attention=True))
