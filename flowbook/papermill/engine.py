"""The engine: papermill's one hook.

Owns: `FlowbookEngine` (entry point ``papermill.engine``: ``flowbook``). Refuses: what papermill does itself, and the
run (`running.py`). Papermill loads every engine that is installed whenever it is imported, also for who wants another
one, so what flowbook needs is loaded when a notebook is executed.
"""

from __future__ import annotations

from typing import Any

from papermill.engines import NBClientEngine


class FlowbookEngine(NBClientEngine):
    """Papermill's nbclient engine, with each cell as a step of a durable run."""

    @classmethod
    def execute_notebook(
        cls, nb: Any, kernel_name: str, output_path: str | None = None, progress_bar: Any = True,
        log_output: bool = False, autosave_cell_every: int = 30, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """See papermill; with a manager that never says more than is true."""
        from flowbook.notebooks.saving import TrueManager

        manager = TrueManager(
            nb, output_path=output_path, progress_bar=progress_bar, log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )  # fmt: skip
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, log_output=log_output, **kwargs)
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, log_output: bool = False, stdout_file: Any = None, stderr_file: Any = None,
        start_timeout: int = 60, execution_timeout: int | None = None, run_key: str | None = None,
        checkpoint: str | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """See papermill. ``run_key`` and ``checkpoint``: see `running.py`."""
        from papermill.log import logger
        from papermill.utils import remove_args

        from flowbook.notebooks.documents import of_node
        from flowbook.papermill.running import carried, checkpoint_of

        limit = execution_timeout or kwargs.get("timeout")
        prepared = of_node(
            nb_man.nb, kwargs.pop("input_path", None), nb_man.output_path, kernel_name, start_timeout=start_timeout,
            cell_timeout=limit, checkpoint=checkpoint_of(checkpoint),
        )  # fmt: skip
        if not prepared.cells:
            return super().execute_managed_notebook(
                nb_man, kernel_name, log_output, stdout_file, stderr_file, start_timeout, execution_timeout, **kwargs
            )
        options = {
            **remove_args(["timeout", "startup_timeout"], **kwargs), "timeout": limit,
            "startup_timeout": start_timeout, "log": logger, "log_output": log_output, "stdout_file": stdout_file,
            "stderr_file": stderr_file,
        }  # fmt: skip
        carried(nb_man, prepared, run_key, options)
        return nb_man.nb
