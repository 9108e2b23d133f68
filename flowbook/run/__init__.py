"""Running: the one loop that carries runs forward, and what it needs. Imports no store: it is given one."""
