"""Resources: found by name, checked with the topology, part of the definition."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from flowbook.errors import DeclarationError, TopologyError
from flowbook.graph.flow import Graph, graph
from flowbook.graph.portable import obstacles
from flowbook.graph.rebuild import rebuild
from flowbook.graph.resource import Resource, resource
from flowbook.graph.sign import sign
from flowbook.graph.source import describe
from flowbook.graph.step import step

Write = Callable[..., ModuleType]
Notebook = Callable[..., Any]
KEY = b"k" * 32
OURS = "import flowbook as fb\n"


@dataclass(frozen=True)
class Stored:
    """As a store gives it back: everything went through JSON."""

    namespace: str
    flow: str
    fingerprint: str
    spec: Any
    sources: Any
    signature: str


def again(made: Graph) -> Graph:
    it = describe(made)
    spec, sources = json.loads(json.dumps([it.spec, it.sources], sort_keys=True))
    signature = sign(KEY, "default", made.name, it.fingerprint, spec, sources)
    return rebuild(Stored("default", made.name, it.fingerprint, spec, sources, signature), key=KEY)


@step
def use(client: Any) -> str:
    return str(client)


# ------------------------------------------------------------------------------------------------------------- finding


def test_a_resource_is_a_plain_function_that_can_be_tested_by_itself() -> None:
    """Calling it calls the function, as with a step."""

    @resource
    def answer() -> int:
        """What it is about."""
        return 42

    assert (answer(), answer.name, answer.__doc__) == (42, "answer", "What it is about.")


@pytest.mark.parametrize("wrong", [3, int, lambda: 1])
def test_what_is_no_function_is_no_resource(wrong: Any) -> None:
    """A lambda has no name by which a step could ask for it."""
    with pytest.raises(DeclarationError, match="@resource goes on a function with a name"):
        resource(wrong)


def test_resource_twice_on_one_function_is_a_mistake() -> None:
    """It would be made twice."""

    def client() -> int:
        return 1

    with pytest.raises(DeclarationError, match="stands on it twice"):
        resource(resource(client))


def test_a_resource_is_found_where_the_step_was_written(write: Write) -> None:
    """As a fixture is found in the module of its test; what it needs is found where it was written itself."""
    module = write(OURS + "@fb.resource\ndef dsn(): return 'x'\n@fb.resource\ndef client(dsn): return dsn\n"
                   "@fb.step\ndef fetch(client): return client\nflow = fb.graph('f', fetch)\n")  # fmt: skip
    assert module.flow.resources == {"client": module.client, "dsn": module.dsn}


def test_a_resource_can_be_handed_to_the_flow() -> None:
    """What stands elsewhere, or inside of a function, is said."""

    @resource
    def client() -> str:
        return "mine"

    made = graph("f", use, resources=[client])
    assert made.resources == {"client": client}
    assert graph("f", use).resources == {}


def test_mistakes_about_resources_are_told_with_all_the_others(write: Write) -> None:
    """Two of one name, one that needs itself, one whose parameter nothing fills."""
    one = write(OURS + "@fb.resource\ndef db(): return 1\n@fb.step\ndef a(db): return db\n")
    two = write(OURS + "@fb.resource\ndef db(): return 2\n@fb.step\ndef b(db): return db\n")
    with pytest.raises(TopologyError, match="two different resources are called db"):
        graph("f", one.a >> two.b)
    assert graph("f", one.a >> two.b, resources=[two.db]).resources == {"db": two.db}
    circle = write(
        OURS + "@fb.resource\ndef p(q): return 1\n@fb.resource\ndef q(p): return 1\n@fb.step\ndef c(p): ...\n"
    )
    with pytest.raises(TopologyError, match="resource p needs itself: p -> q -> p"):
        graph("f", circle.c)
    lost = write(OURS + "@fb.resource\ndef r(url): return 1\n@fb.step\ndef d(r): ...\n")
    with pytest.raises(TopologyError, match="resource r wants 'url', which is no resource"):
        graph("f", lost.d)


# ----------------------------------------------------------------------------------------------- part of the definition


def test_a_resource_belongs_to_the_fingerprint(write: Write) -> None:
    """Other code in it is another version; a flow without one keeps the fingerprint that it had."""
    text = (
        OURS + "@fb.resource\ndef client(): return {}\n@fb.step\ndef fetch(client): return client\n"
        "flow = fb.graph('f', fetch)\n"
    )
    first, second, same = (write(text.format(v)).flow for v in ("'a'", "'b'", "'a'  # again"))
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == same.fingerprint
    assert "resources" not in describe(graph("f", use)).spec


def test_a_flow_with_resources_is_rebuilt_from_its_source(write: Write) -> None:
    """With the helpers and the constants that they read, and those they need; one object for two names of it."""
    module = write(
        """
        import flowbook as fb

        HOST = "example.org"

        def address(host):
            return f"https://{host}"

        @fb.resource
        async def base():
            return address(HOST)

        @fb.resource
        def client(base):
            return ("client", base)

        @fb.step
        def fetch(client, query):
            return client

        flow = fb.graph("f", fetch)
    """
    )
    assert obstacles(describe(module.flow)) == ()
    made = again(module.flow)
    assert set(made.resources) == {"client", "base"}
    assert made.resources["client"]("x") == ("client", "x")
    assert made.resources["base"].kind == "coroutine"


def test_a_resource_of_another_module_is_imported_and_not_copied(write: Write) -> None:
    """It is a name of that module, as a helper of it would be."""
    write(OURS + "@fb.resource\ndef client(): return 1\n", name="written_resources")
    module = write(OURS + "from written_resources import client\n@fb.step\ndef fetch(client): return client\n"
                   "flow = fb.graph('f', fetch)\n")  # fmt: skip
    described = describe(module.flow)
    assert described.sources["callables"]["client"]["kind"] == "reference"
    assert again(module.flow).resources["client"] is module.client


def test_a_resource_of_the_notebook_is_found_by_a_flow_cell(notebook: Notebook) -> None:
    """Whichever cell it stands in; the flow is portable with it."""
    cells = [
        "import flowbook as fb",
        "@fb.resource\nasync def client():\n    yield 'made'\n",
        "@step\ndef fetch(client): return client\nflow = graph('f', fetch)",
    ]
    question = """
        from flowbook.graph.portable import obstacles
        from flowbook.graph.source import describe

        def answer(space):
            flow = space["flow"]
            return [list(flow.resources), flow.resources["client"].kind, list(obstacles(describe(flow)))]
    """
    assert notebook(cells, question) == [["client"], "async generator", []]


def test_a_resource_is_shown_with_its_parameters() -> None:
    """For people who print one."""

    def client(base: str) -> str:
        return base

    assert repr(Resource(client)).startswith("<resource client(base")
