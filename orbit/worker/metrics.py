"""What a worker counts, as Prometheus metrics. Names are part of what operators rely on."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class By(dict[str, Counter]):
    """The counters of one metric by the value of its only label: looked up once each."""

    def __init__(self, metric: Counter, *values: str) -> None:
        super().__init__({value: metric.labels(value) for value in values})
        self._metric = metric

    def __missing__(self, value: str) -> Counter:
        self[value] = self._metric.labels(value)
        return self[value]


class Metrics:
    """One worker's own registry, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        commits = Counter("orbit_worker_commits", "Commits by the store's answer", ["answer"], registry=self.registry)
        self.commits = By(commits, "done", "repeated", "fenced", "rewound", "vanished")
        self.resent = Counter(
            "orbit_worker_commits_resent", "Commits sent again after an unknown outcome", registry=self.registry
        )
        claimed = Counter("orbit_worker_claimed", "Transactions taken over", ["crashed"], registry=self.registry)
        self.claimed = By(claimed)
        released = Counter("orbit_worker_released", "How transactions left", ["how"], registry=self.registry)
        self.released = By(released)
        self.lost = Counter("orbit_worker_leases_lost", "Leases that a renewal found lost", registry=self.registry)
        self.lapsed = Counter(
            "orbit_worker_leases_lapsed", "Leases that nobody confirmed in time: what ran was stopped",
            registry=self.registry,
        )  # fmt: skip
        self.failures = Counter(
            "orbit_worker_hook_failures", "Hooks that raised", ["state", "hook"], registry=self.registry
        )
        self.running = Gauge("orbit_worker_transactions", "Transactions held now", registry=self.registry)
        self.room = Gauge("orbit_worker_room", "How many more it would take", registry=self.registry)
        self.blocked = Counter("orbit_worker_loop_blocked", "Times the event loop was blocked", registry=self.registry)
        self.blocked_s = Counter(
            "orbit_worker_loop_blocked_seconds", "How long the event loop was blocked, in all", registry=self.registry
        )
        self.held_long = Counter(
            "orbit_worker_turns_held", "Turns that were held for long", ["state"], registry=self.registry
        )
        self.turn_s = Histogram(
            "orbit_worker_commit_seconds",
            "From a commit's sending to its answer",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
            registry=self.registry,
        )
