"""The stored backend word and thread count: what was asked for, not what it means."""

import os
from contextvars import ContextVar
from typing import NamedTuple


class Settings(NamedTuple):
    """None stands for: not asked for."""

    backend: str | None = None
    threads: int | None = None

    def over(self, other: "Settings") -> "Settings":
        """These settings, with gaps filled from others."""
        if self.backend is None and self.threads is None:
            return other
        return Settings(
            other.backend if self.backend is None else self.backend,
            other.threads if self.threads is None else self.threads,
        )


#: Set by ``set_config``; the start values come from the environment.
process = Settings(os.environ.get("FASTXENT_BACKEND") or None)

#: Set by ``config``: one value per thread and per asyncio task.
scoped: ContextVar[Settings] = ContextVar("fastxent", default=Settings())


def current() -> Settings:
    """What applies here and now."""
    return scoped.get().over(process)
