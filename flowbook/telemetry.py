"""OpenTelemetry: a span per attempt, in the trace of whoever started the run, and metrics.

Owns: `instrument`. Refuses: choosing where it all goes: a program sets its providers up, as for any library. Needs the
extra ``otel``, and is imported by who wants it alone.

The context of a trace is carried in the run's metadata (``traceparent``), so attempts in other processes, after a crash
or a week later, belong to the trace that the run was started in. While a body runs its span is the current one: what it
calls (HTTP clients, SQLAlchemy) nests below, also from a thread.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as error:
    from flowbook.errors import UsageError

    raise UsageError('flowbook.telemetry needs OpenTelemetry: pip install "flowbook-jupyter[otel]"') from error

from flowbook.observe.events import AttemptFailed, RunCancelled, RunCompleted, RunEvent, RunFailed
from flowbook.plan.commands import StartStep
from flowbook.ports import RunRow

if TYPE_CHECKING:
    from flowbook.app import App

CARRIED = ("traceparent", "tracestate")
"""Keys of the metadata."""
_ENDS = {RunCompleted: "completed", RunFailed: "failed", RunCancelled: "cancelled"}


def instrument(app: Any, *, tracer_provider: Any = None, meter_provider: Any = None) -> None:
    """Trace and measure what an app starts and carries from now on; the providers default to the global ones.

    ``app``: an `App`, or the one of `flowbook.connect` without ``async``.

    Spans: ``start FLOW``, and ``FLOW/NODE`` per attempt, with ``flowbook.run_id``, ``.flow``, ``.path``, ``.attempt``
    and ``.namespace``. Metrics: ``flowbook.attempt.duration`` (seconds, by flow, node and outcome),
    ``flowbook.attempts.failed`` and ``flowbook.runs.ended`` (by status).
    """
    whole: App = getattr(app, "app", app)
    tracing = _Tracing(trace.get_tracer("flowbook", tracer_provider=tracer_provider), meter_provider)
    tracing.namespace = whole.options.namespace
    whole.marked = tracing.marked
    whole.engine.tools.around[:] = [tracing.around]
    app.on(RunEvent, tracing.ended)


class _Tracing:
    """What is traced of one app."""

    def __init__(self, tracer: trace.Tracer, meter_provider: Any) -> None:
        self.tracer = tracer
        self.namespace = ""
        meter = metrics.get_meter("flowbook", meter_provider=meter_provider)
        self.seconds = meter.create_histogram("flowbook.attempt.duration", unit="s", description="of a step's body")
        self.failed = meter.create_counter("flowbook.attempts.failed", description="attempts that raised or were lost")
        self.runs = meter.create_counter("flowbook.runs.ended", description="runs that are over, by status")

    def marked(self, flow: str, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """The metadata of a run that is started now: with the trace that it belongs to."""
        about = {"flowbook.flow": flow, "flowbook.namespace": self.namespace}
        with self.tracer.start_as_current_span(f"start {flow}", kind=SpanKind.PRODUCER, attributes=about):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
        return {**{key: carrier[key] for key in CARRIED if key in carrier}, **metadata}

    @contextlib.contextmanager
    def around(self, row: RunRow, command: StartStep) -> Iterator[None]:
        """The span of an attempt, current while its body runs."""
        about: dict[str, Any] = {
            "flowbook.run_id": str(row.id), "flowbook.flow": row.flow, "flowbook.namespace": row.namespace,
            "flowbook.path": command.path, "flowbook.attempt": command.attempt,
        }  # fmt: skip
        context = propagate.extract({key: row.metadata[key] for key in CARRIED if key in row.metadata})
        outcome, began = "cancelled", time.perf_counter()
        with self.tracer.start_as_current_span(
            f"{row.flow}/{command.node}", context, SpanKind.CONSUMER, about, set_status_on_exception=False
        ) as span:
            try:
                yield
                outcome = "finished"
            except Exception as error:
                outcome = "failed"
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
                raise
            finally:
                spent = time.perf_counter() - began
                self.seconds.record(spent, {"flow": row.flow, "node": command.node, "outcome": outcome})

    def ended(self, event: RunEvent) -> None:
        """Count it."""
        if isinstance(event, AttemptFailed):
            self.failed.add(1, {"node": event.path.partition("#")[0], "final": event.final, "lost": event.lost})
        elif type(event) in _ENDS:
            self.runs.add(1, {"status": _ENDS[type(event)]})
