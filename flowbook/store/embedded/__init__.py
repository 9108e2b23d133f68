"""A Postgres that comes with the library: one server per home, shared by all processes of the user.

Owns: finding, starting, sharing, recovering and stopping it. Refuses: SQL, the schema, the environment (callers pass
the home), and being imported for its side effects.

Theory of operation: every client holds a *shared* lock on one file for as long as it needs the server. A supervisor,
the parent of ``postgres``, stops it once it can have that lock *exclusively*. The kernel drops locks of dead processes,
so no crash of anybody leaves a count wrong. See locks.py, cluster.py (clients) and supervisor.py (server).
"""

from flowbook.store.embedded.cluster import Cluster, Server
from flowbook.store.embedded.layout import default_home

__all__ = ["Cluster", "Server", "default_home"]
