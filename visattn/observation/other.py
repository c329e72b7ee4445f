"""Other: attention-like code that is not a softmax over tokens times a value."""

from __future__ import annotations

from dataclasses import dataclass

LINEAR = "linear attention"
GATE = "channel gate softmax"
POOLING = "spatial pooling softmax"
ACROSS_BATCH = "attention across the batch"
UNREAD = "unread product"
UNCLAIMED = "softmax without value"

WITHOUT_SOFTMAX = {
    "BilinearAttnTransform": ("bilinear transform", "two sigmoid matrices, one per image axis"),
    "ConvAttention": ("convolution", "a grouped convolution that is called attention"),
    "EfficientAdditiveAttention": (
        "additive attention",
        "tokens are pooled with L2-normalised weights, and the pool is multiplied with the keys",
    ),
}


@dataclass(frozen=True)
class Other:
    """Attention-like code that was seen and is not an `AttentionOperation`.

    Attributes:
        name: dotted name of the module in which it happened.
        kind: "linear attention" (keys meet values before queries, so no (query, key) weights
            exist), "channel gate softmax" (a softmax chooses between branches), "spatial pooling
            softmax" (one learned row of weights pools the positions), "attention across the batch"
            (operands without a batch axis), "unread product" (a softmax in a product of a form
            that cannot be read), "softmax without value" (its product was not found), or what
            `WITHOUT_SOFTMAX` says of classes that are called attention and compute no softmax.
        detail: shapes and reason, for messages.
    """

    name: str
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.name} ({self.detail})"
