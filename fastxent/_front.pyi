from typing import Any, final

REDUCTIONS: tuple[str, ...]

@final
class Call: ...

@final
class Front:
    def __new__(cls, capsule: object) -> Front: ...
    def normalize(
        self, threads: int | None, kind: str, x: Any, axis: Any, out: Any, keepdims: bool
    ) -> Any | None: ...
    def loss(
        self,
        threads: int | None,
        index: bool,
        logits: Any,
        labels: Any,
        axis: Any,
        smoothing: Any,
        z_loss: Any,
        reduction: Any,
        out: Any,
        with_grad: bool,
        grad: Any,
    ) -> Any | None: ...
