"""Figures of a server for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from steer.serving.scheduler import Scheduler

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server; their names begin with `steer_`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "steer_requests", "Requests answered.", ("path", "status"), registry=self.registry
        )
        self.tokens = Counter("steer_tokens", "Tokens written.", registry=self.registry)
        self.first_token = Histogram(
            "steer_first_token_seconds",
            "Time from a request to the first token of each text.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        running = Gauge("steer_rows_running", "Texts in a batch.", registry=self.registry)
        running.set_function(lambda: scheduler.running)
        rows = Gauge("steer_rows", "Texts that are written or wait.", registry=self.registry)
        rows.set_function(lambda: scheduler.outstanding)

    def wrote(self, tokens: int) -> None:
        """Counts tokens."""
        self.tokens.inc(tokens)

    def answered(self, path: str, status: int) -> None:
        """Counts an answer."""
        self.requests.labels(path, str(status)).inc()

    def text(self) -> bytes:
        """All figures in Prometheus's text format."""
        return generate_latest(self.registry)
