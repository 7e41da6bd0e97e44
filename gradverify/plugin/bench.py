"""Where layers are loaded and verified: each once a run, in a process beside that of pytest.

A layer that hangs or crashes is then one failed item, and what the process of pytest has set up
(warnings as errors, a profile of Hypothesis, patches of a conftest) changes no verdict: it is that
of `gradverify verify`. The process is started once; pytest itself imports neither NumPy nor sympy,
so that this costs a fraction of a second.
"""

import hashlib
import os
import pickle
import sqlite3
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing
from pathlib import Path
from typing import Any

from gradverify.jobs import Job, run
from gradverify.result import LayerResult
from gradverify.survey import Found, look
from gradverify.workers import WorkerPool

# For so long does a process wait for what another one is at, which ends in its own time.
_PATIENCE = 86_400.0  # seconds


class Shared:
    """A folder in which the processes of one run leave what need not be found out twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what is kept under a key, made by the first that asks; others wait for it."""
        file = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.db"
        # A lock that ends with its process, whatever ends that, on every system.
        with closing(sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT, value BLOB)")
            row = db.execute("SELECT value FROM kept").fetchone()
            if row is None:
                row = (pickle.dumps(make()),)
                db.execute("INSERT INTO kept VALUES (?, ?)", (key, *row))
            db.execute("COMMIT")
        return pickle.loads(row[0])

    def kept(self) -> Iterator[tuple[str, Any]]:
        """Yield all that is kept, by key."""
        for file in sorted(self.folder.glob("*.db")):
            with closing(sqlite3.connect(file, timeout=_PATIENCE)) as db:
                try:
                    rows = db.execute("SELECT key, value FROM kept").fetchall()
                except sqlite3.OperationalError:  # its process was killed before it made it
                    rows = []
            yield from ((key, pickle.loads(value)) for key, value in rows)


class Bench:
    """Loads spec files and verifies layers, `here` in this process or in one of its own.

    That is given `timeout` seconds for each file and layer. `shared` is the folder of a run that
    has several processes.
    """

    def __init__(self, *, here: bool, timeout: float, shared: Shared | None) -> None:
        self.here, self.timeout, self.shared = here, timeout, shared
        self.results: dict[str, LayerResult] = {}  # by the layer's node id
        self._executor: Executor | None = None

    @property
    def _works(self) -> Executor:
        if self._executor is None:
            self._executor = _Here() if self.here else _Beside(self.timeout)
        return self._executor

    def look(self, path: Path) -> tuple[Found, ...] | str:
        """Return the layers that a spec file registers, or why it asks to be skipped.

        Raises SpecError for whatever goes wrong in it, and as WorkerPool does.
        """
        return self._works.submit(_look, str(path)).result()

    def verified(self, key: str, job: Job) -> tuple[LayerResult, float]:
        """Return the result of a layer, verified when it is first asked for, and the seconds that
        this took here and now."""
        took = 0.0

        def verify() -> LayerResult:
            nonlocal took
            began = time.perf_counter()
            try:
                (result,) = run([job], self._works, lambda job, result: None)
            except BaseException:  # such as another plugin's time limit: nobody waits any more
                self.close()
                raise
            took = time.perf_counter() - began
            return result

        if key not in self.results:
            self.results[key] = self.shared.once(key, verify) if self.shared else verify()
        return self.results[key], took

    def close(self) -> None:
        """End the process, whatever it is at."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


def _look(path: str) -> tuple[Found, ...] | str:
    try:
        return look(path)
    except BaseException as error:
        pytest = sys.modules.get("pytest")
        if pytest is not None and isinstance(error, pytest.skip.Exception):
            return str(error.msg)
        raise


class _Here(Executor):
    """Runs tasks at once and in this process, where they can be debugged: it raises theirs.

    Warnings are shown and are no errors, as in a process of their own.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            future.set_result(fn(*args, **kwargs))
        return future


class _Beside(Executor):
    """Runs tasks in one process, which can import whatever this one can."""

    def __init__(self, timeout: float) -> None:
        self._pool = WorkerPool(1, timeout)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._pool.submit(_with_path, tuple(sys.path), fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


def _with_path(path: tuple[str, ...], fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    sys.path[:] = path
    # No example database is kept, yet Hypothesis would leave a folder in the user's project.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir() + "/hypothesis")
    return fn(*args, **kwargs)
