"""What a poller counts."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from libs.clock import now_ms
from services.comsrv.contract import DeviceError, MalformedError, NoAnswerError
from services.comsrv.units import Unit

ERRORS: Final = 20


@dataclass
class Statistics:
    """What the diagnostics show."""

    polls: int = 0
    late: int = 0
    requests: int = 0
    failures: int = 0
    timeouts: int = 0
    malformed: int = 0
    connections: int = 0
    searches: int = 0
    plans: int = 0
    last_error: str = ""
    last_error_at_ms: int = 0
    last_poll_ms: int = 0
    exceptions: Counter[int] = field(default_factory=Counter)
    errors: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=ERRORS))

    def document(self) -> dict[str, Any]:
        """Return the counters and the last errors."""
        exceptions = {str(code): number for code, number in sorted(self.exceptions.items())}
        return vars(self) | {"exceptions": exceptions, "errors": list(self.errors)}

    def note(self, error: DeviceError, unit: Unit | None) -> None:
        """Count an error, for its unit too, and keep its text."""
        code: int | None = getattr(error, "exception_code", None)
        silent = isinstance(error, NoAnswerError) and code is None
        self.failures += 1
        self.timeouts += silent
        self.malformed += isinstance(error, MalformedError)
        self.last_error, self.last_error_at_ms = str(error), now_ms()
        self.errors.append({"at_ms": self.last_error_at_ms, "unit": unit.name if unit else "", "text": self.last_error})
        if code is not None:
            self.exceptions[code] += 1
        if unit is not None:
            unit.last_error, unit.last_error_at_ms = self.last_error, self.last_error_at_ms
            unit.timeouts += silent
            if code is not None:
                unit.exceptions[code] += 1
