"""What an edge counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from orbit.store.types import Spec


class Metrics:
    """One process's own registry, so that several edges can live in one process (tests do that)."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.opened = self._counter("connections_opened", "WebSocket connections accepted")
        self.received = self._counter("messages_received", "Messages from clients", "type")
        self.answers = self._counter("sends_answered", "Answers to clients' messages", "answer")
        self.relayed = self._counter("entries_relayed", "Log entries heard or read for live followers")
        self.pages = self._counter("pages_read", "Log pages read for followers that weren't live")
        self.cut = self._counter("followers_cut", "Times that a slow client was cut from the live feed")
        self.resets = self._counter("resets", "Resets told", "reason")
        self.lost = self._counter("live_messages_lost", "Commits that pub/sub never told")
        self.defects = self._counter("defects", "Internal errors")
        self.requests = self._counter("http_requests", "HTTP requests answered", "status")

        self._waiting = Gauge(
            "orbit_waiting_transactions",
            "Transactions of the deployment that are ready for a worker",
            ["queue", "state", "version", "runnable"],
            registry=self._registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"orbit_edge_{name}", text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A number that is read when it is asked for."""
        Gauge(f"orbit_edge_{name}", text, registry=self._registry).set_function(read)

    def count(self, name: str, text: str, read: Callable[[], int]) -> None:
        """A number that something else counts; read when it is asked for."""
        self._registry.register(_Counted(f"orbit_edge_{name}", text, read))

    def note_waiting(self, counts: Mapping[Spec, int], runnable: Collection[Spec]) -> None:
        """What waits for a worker, and whether a live one can run it."""
        self._waiting.clear()
        for spec, count in counts.items():
            labels = (spec.queue, spec.state, str(spec.version), str(spec in runnable).lower())
            self._waiting.labels(*labels).set(count)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Counted(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], int]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterable[Metric]:
        return [CounterMetricFamily(self._name, self._text, value=self._read())]
