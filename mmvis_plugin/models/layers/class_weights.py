"""Weights of the classes in the classification loss of MMDetection's query heads."""

import copy


def with_class_weights(head: dict) -> dict:
    """A head with a weight of the classification loss for each of its classes and the background.

    The list has to change with the number of classes. Where all classes weigh the same, which they
    do in the paper, it follows from that number.

    Args:
        head: Config of a head with ``num_classes`` and ``loss_cls.class_weight``.

    Returns:
        dict: The config, or a copy with a list of ``num_classes + 1`` numbers.

    Raises:
        ValueError: The list has another length and unequal weights.
    """
    loss, count = head.get("loss_cls") or {}, head.get("num_classes")
    *weights, background = loss.get("class_weight") or [None]
    if background is None or count is None or len(weights) == count:
        return head
    if len(set(weights)) != 1:
        raise ValueError(
            f"loss_cls.class_weight has {len(weights) + 1} weights, but num_classes is {count}: "
            f"set it to {count} weights and the background's"
        )
    head = copy.deepcopy(head)
    head["loss_cls"]["class_weight"] = weights[:1] * count + [background]
    return head
