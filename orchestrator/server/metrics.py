"""What Prometheus reads at /metrics: tokens, tau, acceptance by source, the queue, and latencies."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from orchestrator.server.job import Job

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKEN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_TAU = (1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6, 8, 12, 16, 32)


class Metrics:
    """The figures of one server, in a registry of their own."""

    def __init__(self, waiting: Callable[[], float], generating: Callable[[], float]) -> None:
        """waiting, generating: how many requests are in the queue, and being served, right now."""
        self._registry = registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"pilotfish_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"pilotfish_{name}", what, buckets=buckets, registry=registry)

        self._requests = counter("requests", "Requests answered, 499 = the client left", "route", "status")
        self._prompt = counter("prompt_tokens", "Tokens of prompts")
        self._reused = counter("prompt_tokens_reused", "Tokens of prompts that were still in the cache")
        self._tokens = counter("generated_tokens", "Tokens generated")
        self._decodes = counter("decodes", "Decodes of the target after the prefill; tokens / decodes = tau")
        self._drafted = counter("drafted_tokens", "Tokens guessed", "source")
        self._accepted = counter("accepted_tokens", "Guessed tokens that were right", "source")
        self._acceptance = Gauge(
            "pilotfish_acceptance",
            "Share of guessed tokens that were right, so far",
            ["source"],
            registry=registry,
        )
        self._tau = histogram("tau", "Tokens per decode of a request; 1 = plain decoding", _TAU)
        self._queued = histogram("queue_seconds", "From a request's arrival to its turn", _SECONDS)
        self._first = histogram(
            "first_token_seconds", "From a request's arrival to its first token", _SECONDS
        )
        self._whole = histogram("request_seconds", "From a request's arrival to its last token", _SECONDS)
        self._token = histogram("token_seconds", "Decoding time per token of a request", _TOKEN_SECONDS)
        for name, what, count in (
            ("queue_length", "Requests that wait for their turn", waiting),
            ("generating", "Requests that are being served", generating),
        ):
            Gauge(f"pilotfish_{name}", what, registry=registry).set_function(count)
        self._totals: dict[str, tuple[int, int]] = {}

    def answered(self, route: str, status: int) -> None:
        """Count one more response."""
        self._requests.labels(route, str(status)).inc()

    def generated(self, job: Job) -> None:
        """Count what the engine did for `job`, whether or not its client is still there."""
        result = job.result
        self._queued.observe(job.started - job.arrived)
        if result is None or not job.first:
            return
        stats = result.stats
        self._prompt.inc(stats.n_prompt)
        self._reused.inc(stats.n_reused)
        self._tokens.inc(stats.n_tokens)
        self._decodes.inc(stats.n_decodes)
        self._first.observe(job.first - job.arrived)
        self._whole.observe(job.ended - job.arrived)
        if stats.n_tokens:
            self._tau.observe(stats.tau)
            self._token.observe(stats.t_decode / stats.n_tokens)
        for name, source in stats.by_source.items():
            self._count_source(name, source.n_drafted, source.n_accepted)

    def _count_source(self, name: str, n_drafted: int, n_accepted: int) -> None:
        before = self._totals.get(name, (0, 0))
        drafted, accepted = self._totals[name] = (before[0] + n_drafted, before[1] + n_accepted)
        self._drafted.labels(name).inc(n_drafted)
        self._accepted.labels(name).inc(n_accepted)
        self._acceptance.labels(name).set(accepted / drafted if drafted else 0.0)

    def text(self) -> bytes:
        """Everything, in Prometheus's format."""
        return generate_latest(self._registry)
