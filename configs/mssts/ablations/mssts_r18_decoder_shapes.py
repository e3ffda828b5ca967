# MS-STS VIS on ShapesVIS without the foreground-background separability loss: MS-STS attention in
# the encoder and temporal attention in the decoder.
_base_ = "./mssts_r18_both_shapes.py"

model = dict(decoder=dict(temporal_attention=True))
