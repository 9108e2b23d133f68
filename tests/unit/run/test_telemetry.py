"""OpenTelemetry: spans that belong together across processes, and metrics."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import flowbook as fb
from flowbook.errors import StepFailed
from flowbook.telemetry import instrument
from flowbook.testing import MemoryDatabase, memory_app

LIMIT = 20.0


class Seen:
    """Spans and metrics of a test."""

    def __init__(self) -> None:
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))

    def instrument(self, app: Any) -> None:
        instrument(app, tracer_provider=self.tracers, meter_provider=self.meters)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def numbers(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        data: Any = self.reader.get_metrics_data()
        return {
            metric.name: [(dict(p.attributes), getattr(p, "value", None) or getattr(p, "count", 0)) for p in
                          metric.data.data_points]
            for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
        }  # fmt: skip


seen = Seen()


@fb.step
def in_a_thread() -> int:
    with seen.tracers.get_tracer("user").start_as_current_span("inner"):
        return 1


@fb.step(retries=1, backoff=(0,))
async def flaky(ctx: fb.Context) -> dict[str, Any]:
    await asyncio.sleep(0)
    if ctx.attempt == 1:
        raise ValueError("once")
    return {"span": trace.get_current_span().get_span_context().span_id}


flow = fb.graph("traced", in_a_thread >> flaky)


@fb.step
def breaks() -> None:
    raise ValueError("always")


async def test_attempts_belong_to_the_trace_that_the_run_was_started_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another process carries it: the context is in the run's metadata. What a body opens nests below."""
    global seen
    seen = Seen()
    database = MemoryDatabase()
    async with memory_app(database) as starter, memory_app(database) as worker:
        for app in (starter, worker):
            seen.instrument(app)
        await worker.register(flow)
        with seen.tracers.get_tracer("user").start_as_current_span("request") as request:
            run = await starter.start(flow, metadata={"org": "a"}, carry=False)
        work = asyncio.create_task(worker.work())
        state = await run.result(timeout=LIMIT)
        work.cancel()
        row = await starter.store.run(run.id)
        assert row.metadata["org"] == "a"
    (start,) = seen.named("start traced")
    (thread,) = seen.named("traced/in_a_thread")
    failed, good = seen.named("traced/flaky")
    (inner,) = seen.named("inner")
    assert start.parent.span_id == request.get_span_context().span_id
    assert {span.parent.span_id for span in (thread, failed, good)} == {start.context.span_id}
    assert inner.parent.span_id == thread.context.span_id
    assert len({span.context.trace_id for span in seen.spans.get_finished_spans()}) == 1
    assert row.metadata["traceparent"].split("-")[1] == f"{start.context.trace_id:032x}"
    assert state["span"] == good.context.span_id
    assert dict(failed.attributes) == {
        "flowbook.run_id": str(run.id), "flowbook.flow": "traced", "flowbook.namespace": "default",
        "flowbook.path": "flaky#1", "flowbook.attempt": 1,
    }  # fmt: skip
    assert (failed.status.status_code.name, failed.events[0].name) == ("ERROR", "exception")
    assert good.status.status_code.name == "UNSET"


async def test_attempts_and_runs_are_measured() -> None:
    """Durations by outcome, failed attempts, ends by status."""
    global seen
    seen = Seen()
    async with memory_app() as app:
        seen.instrument(app)
        await (await app.start(flow)).result(timeout=LIMIT)
        with pytest.raises((StepFailed, ValueError)):
            await (await app.start(fb.graph("broken", breaks))).result(timeout=LIMIT)
        async with asyncio.timeout(LIMIT):
            while sum(n for _, n in seen.numbers().get("flowbook.runs.ended", [])) < 2:
                await asyncio.sleep(0.01)
    found = seen.numbers()
    outcomes = {(a["node"], a["outcome"]): n for a, n in found["flowbook.attempt.duration"]}
    assert outcomes == {
        ("in_a_thread", "finished"): 1, ("flaky", "failed"): 1, ("flaky", "finished"): 1, ("breaks", "failed"): 1,
    }  # fmt: skip
    assert sum(n for _, n in found["flowbook.attempts.failed"]) == 2
    assert {a["status"]: n for a, n in found["flowbook.runs.ended"]} == {"completed": 1, "failed": 1}


async def test_without_telemetry_nothing_is_carried() -> None:
    """No key is added to anybody's metadata, and bodies run in nothing."""
    async with memory_app() as app:
        run = await app.start(fb.graph("plain", in_a_thread), metadata={"org": "a"})
        await run.result(timeout=LIMIT)
        assert (await app.store.run(run.id)).metadata == {"org": "a"}
        assert app.engine.tools.around == []
