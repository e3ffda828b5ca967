"""One-to-one assignment in which pairs that cost too much stay apart."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def assign(cost: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair rows with columns so that the sum of ``cost - limit`` over all pairs is smallest.

    A pair above the limit is worse than none. The same pairs come from
    ``lap.lapjv(cost, extend_cost=True, cost_limit=limit)``, and from an assignment of as many
    pairs as there can be in which costs above the limit are set to the limit and whose pairs of
    that cost are refused, as DeepSORT does it.

    Args:
        cost: (N, M) costs; infinite or NaN for pairs that are refused.
        limit: Largest cost of a pair.

    Returns:
        tuple[np.ndarray, np.ndarray]: (K,) rows, rising, and (K,) columns of the pairs.
    """
    num_rows, num_columns = cost.shape
    # Leaving a row and a column alone costs half the limit each.
    extended = np.full((num_rows + num_columns,) * 2, limit / 2)
    extended[num_rows:, num_columns:] = 0
    extended[:num_rows, :num_columns] = np.where(np.isfinite(cost), cost, np.inf)
    rows, columns = linear_sum_assignment(extended)
    paired = (rows < num_rows) & (columns < num_columns)
    return rows[paired], columns[paired]
