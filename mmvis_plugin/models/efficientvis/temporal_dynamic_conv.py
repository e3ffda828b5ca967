"""Temporal dynamic convolution (TDC).

Source: EfficientVIS, Eq. 3.
"""

import torch
import torch.nn.functional as F
from mmdet.models.layers.transformer import DynamicConv
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class TemporalDynamicConv(DynamicConv):
    """MMDetection's ``DynamicConv`` over the frames t-1, t and t+1.

    A filter is generated from a tracklet's query in frame t and applied to the RoI features of the
    three frames, each taken in its own box. Where the filtered features agree with those of
    frame t, they are added to them: weights at each pixel are the softmax over the three frames of
    the cosine similarity. At the ends of a clip the frames that exist share the weight.

    The filter itself, two 1 x 1 convolutions with norm and ReLU, and the projection of an RoI to
    one embedding are MMDetection's, parameters included. The RoI features are kept here, since
    masks are segmented from them; the projection reads them averaged to its own, coarser grid, so
    that it takes the weights of detectors whose RoIs have 7 x 7 cells. (The paper does not tell
    the sizes.)

    Args:
        temporal: False takes frame t only, as a detector does ("still-image", Table 1b).
        **kwargs: Of ``DynamicConv``; ``input_feat_shape`` is the projection's grid.
    """

    def __init__(self, temporal: bool = True, **kwargs) -> None:
        super().__init__(with_proj=True, **kwargs)
        self.temporal = temporal

    def forward(self, queries: Tensor, rois: Tensor, valid: Tensor | None = None) -> Tensor:
        """Tracklet features o of Eq. 3.

        Args:
            queries: (B, N, T, C).
            rois: (B, N, T, C, S, S) features in the box of each frame.
            valid: (B, T) bool, False in frames that only pad a clip; None where all are frames.

        Returns:
            (B, N, T, C', S, S).
        """
        size = rois.shape[-2:]
        pixels = rois.flatten(-2).transpose(-1, -2)  # (B, N, T, P, C)
        if not self.temporal:
            features = self._filter(queries, pixels)
        else:
            neighbours, exists = neighbouring_frames(pixels.shape[2], valid, pixels.device)
            around = pixels[:, :, neighbours]  # (B, N, T, 3, P, C)
            filtered = self._filter(queries, around.flatten(3, 4)).unflatten(3, (3, -1))
            weights = adaptive_weights(filtered, exists[:, None])
            features = (weights[..., None] * filtered).sum(3)
        return features.transpose(-1, -2).unflatten(-1, size)

    def _filter(self, queries: Tensor, pixels: Tensor) -> Tensor:
        """conv2d(w, .) for all filters at once.

        Args:
            queries: (..., C), from which the filters are generated.
            pixels: (..., P, C), any number of pixels for each filter.

        Returns:
            (..., P, C').
        """
        shape = queries.shape[:-1]
        filters = self.dynamic_layer(queries.flatten(0, -2))
        first, second = filters.split([self.num_params_in, self.num_params_out], dim=-1)
        features = pixels.flatten(0, -3) @ first.unflatten(1, (self.in_channels, -1))
        features = self.activation(self.norm_in(features))
        features = features @ second.unflatten(1, (self.feat_channels, -1))
        features = self.activation(self.norm_out(features))
        return features.unflatten(0, shape)

    def project(self, features: Tensor) -> Tensor:
        """One embedding for each frame of a tracklet.

        Args:
            features: (B, N, T, C', S, S) as :meth:`forward` gives them.

        Returns:
            (B, N, T, C').
        """
        shape, size = features.shape[:3], self.input_feat_shape
        features = features.flatten(0, 2)
        if features.shape[-1] != size:
            features = F.adaptive_avg_pool2d(features, size)
        # The order that DynamicConv's layer is trained for: channels run fastest.
        embedding = self.fc_layer(features.flatten(2).transpose(1, 2).flatten(1))
        return self.activation(self.fc_norm(embedding)).unflatten(0, shape)


def neighbouring_frames(
    num_frames: int, valid: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The frames t-1, t, t+1 of each frame t, and which of them exist.

    Args:
        num_frames: T.
        valid: (B, T) bool or None, see :meth:`TemporalDynamicConv.forward`.
        device: Of the results.

    Returns:
        (T, 3) frame indices, in [0, T) also where there is no frame, and (B or 1, T, 3) bool; the
        middle one counts as existing always.
    """
    times = torch.arange(num_frames, device=device)[:, None] + torch.tensor([-1, 0, 1]).to(device)
    neighbours = times.clamp(0, num_frames - 1)
    exists = (neighbours == times)[None]
    if valid is not None:
        exists = exists & valid[:, neighbours]
        exists[..., 1] = True
    return neighbours, exists


def adaptive_weights(filtered: Tensor, exists: Tensor) -> Tensor:
    """The weights a of Eq. 3.

    Args:
        filtered: (..., 3, P, C') filtered features of the frames t-1, t, t+1.
        exists: (..., 3) bool, broadcastable; the middle one True.

    Returns:
        (..., 3, P) float32, sums to 1 over the three frames, 0 where there is no frame.
    """
    filtered = filtered.float()
    # As products of vectors: F.cosine_similarity would normalise copies of all the features.
    with torch.autocast(filtered.device.type, enabled=False):
        products = torch.linalg.vecdot(filtered, filtered[..., 1:2, :, :])
    norms = filtered.square().sum(-1).clamp(min=1e-12).sqrt()
    similarity = products / (norms * norms[..., 1:2, :])
    return similarity.masked_fill(~exists[..., None], -torch.inf).softmax(-2)
