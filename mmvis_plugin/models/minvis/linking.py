"""Which query of a frame is which query of the frame before."""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match_queries(previous: Tensor, current: Tensor) -> Tensor:
    """Assign the queries of a frame to those of the frame before by the cosine of their embeddings.

    The sum of cosines is the greatest possible. Every query takes part, also one that stands for no
    object: nothing is born and nothing ends.

    Source: MinVIS (Huang et al., NeurIPS 2022), Sec. 3.2.

    Args:
        previous: (Q, D) embeddings of the frame before.
        current: (Q, D) embeddings of the frame.

    Returns:
        (Q,) long, on the device of the embeddings: for each query of the frame before its row in
        ``current``; a permutation.
    """
    cosines = F.normalize(previous, dim=-1) @ F.normalize(current, dim=-1).T
    _, rows = linear_sum_assignment(cosines.cpu().numpy(), maximize=True)
    return torch.from_numpy(rows).to(current.device)
