"""What this process counts at its doors, in Prometheus' text format.  Names no tenant and no member."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .breaker import Health
from .engine import Outcome
from .errors import TallyError
from .writer import Writer


class Metrics:
    """Counters since the process began."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: dict[str, float] = {}
        self._events: Counter[str] = Counter()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests[method, route, status] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def recorded(self, outcomes: Iterable[Outcome]) -> None:
        """Events came in, and this is what came of them."""
        for outcome in outcomes:
            self._events[_word(outcome)] += 1

    def exposition(self, writer: Writer, plugins: Sequence[Health] = ()) -> str:
        """All of it as text; *plugins* is how their hooks fare."""
        series: list[tuple[str, str, str, list[tuple[str, float]]]] = [
            (
                "tallystick_http_requests_total", "counter", "Requests answered.",
                [(f'method="{method}",route="{route}",status="{status}"', n) for (method, route, status), n in sorted(self._requests.items())],
            ),
            (
                "tallystick_http_seconds_total", "counter", "Seconds from a request's head to its answer.",
                [(f'route="{route}"', seconds) for route, seconds in sorted(self._seconds.items())],
            ),
            (
                "tallystick_events_total", "counter", "Events that came in over HTTP, by what came of them.",
                [(f'outcome="{word}"', n) for word, n in sorted(self._events.items())],
            ),
            ("tallystick_writer_events_total", "counter", "Events the writer took.", [("", writer.events)]),
            ("tallystick_writer_batches_total", "counter", "Batches committed.", [("", writer.batches)]),
            ("tallystick_writer_waiting", "gauge", "Events that wait for the next batch.", [("", writer.waiting)]),
        ]  # fmt: skip
        labels_of = [(f'plugin="{h.plugin}",version="{h.version}",hook="{h.hook}"', h) for h in plugins]
        for name, text in _OF_PLUGINS.items():
            values: list[tuple[str, float]] = [(labels, getattr(h, name)) for labels, h in labels_of]
            series.append((f"tallystick_plugin_{name}_total", "counter", text, values))
        shut: list[tuple[str, float]] = [(labels, int(h.state != "closed")) for labels, h in labels_of]
        series.append(("tallystick_plugin_switched_off", "gauge", "Whether the breaker passes it over.", shut))
        lines: list[str] = []
        for name, kind, text, values in series:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{{{labels}}} {value!r}" if labels else f"{name} {value!r}" for labels, value in values]
        return "\n".join(lines) + "\n"


#: What is counted of each hook of each plugin.
_OF_PLUGINS = {
    "calls": "Events that came to a plugin's hook.",
    "errors": "Failures of a plugin's hook.",
    "overruns": "Times a plugin's hook had to be ended.",
    "skipped": "Times a plugin's hook was passed over.",
}


def _word(outcome: Outcome) -> str:
    if isinstance(outcome, TallyError):
        return outcome.code
    return "repeated" if outcome.repeated else outcome.record.status
