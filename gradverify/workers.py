"""WorkerPool: process workers that survive what they run, be it a hang, a crash or a print."""

import contextlib
import faulthandler
import io
import multiprocessing
import os
import pickle
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Executor, Future
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_SPAWN = multiprocessing.get_context("spawn")
_OUTPUT = 4_000  # characters: room for the traceback of a crash, which is written last
_START = 60.0  # seconds that a process may take to start, on top of its first task's own
_GRACE = 1.0  # seconds to be patient before force


class WorkerTimeout(Exception):
    """A task took longer than `seconds`; `output` is the last it wrote to stdout and stderr, and
    `noted` what it said last that it was at."""

    def __init__(self, seconds: float, output: str = "", noted: str = "") -> None:
        super().__init__(seconds, output, noted)
        self.seconds, self.output, self.noted = seconds, output, noted

    def __str__(self) -> str:
        return f"no result within {self.seconds:g} s: its process was killed"


class WorkerDied(Exception):
    """A task's process died; `output` is the last it wrote to stdout and stderr, and `noted` what
    it said last that it was at.

    `exitcode` is as in `multiprocessing.Process`: -n for signal n.
    """

    def __init__(self, exitcode: int, output: str = "", noted: str = "") -> None:
        super().__init__(exitcode, output, noted)
        self.exitcode, self.output, self.noted = exitcode, output, noted

    def __str__(self) -> str:
        if self.exitcode >= 0:
            return f"its process exited with code {self.exitcode}"
        names = {-s.value: s.name for s in signal.Signals}
        return f"its process died of {names.get(self.exitcode, f'signal {-self.exitcode}')}"


class WorkerPool(Executor):
    """Runs tasks in `workers` spawned processes, each for at most `timeout` seconds (None: any).

    A future raises what its function raised; a RuntimeError that tells it where that, or the
    result, cannot be pickled, or would end the caller too (`SystemExit`); WorkerTimeout or
    WorkerDied where the process did not survive, which no other task notices. What tasks print
    is shown in these two only.
    """

    def __init__(self, workers: int, timeout: float | None) -> None:
        if workers < 1 or (timeout is not None and timeout <= 0):
            raise ValueError(f"no pool can have {workers} workers and a timeout of {timeout} s")
        seconds = float("inf") if timeout is None else timeout
        self._folder = tempfile.TemporaryDirectory(prefix="gradverify-", ignore_cleanup_errors=True)
        self._workers = [_Worker(seconds, Path(self._folder.name, str(i))) for i in range(workers)]
        self._lock = threading.Lock()  # guards the queue and the flags
        self._queue: deque[_Task] = deque()
        self._closing = self._killing = self._rung = False
        self._ear, self._bell = _SPAWN.Pipe(duplex=False)
        self._thread = threading.Thread(target=self._dispatch, name="WorkerPool", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Return the future of `fn(*args, **kwargs)`, which are pickled now.

        RuntimeError after `shutdown`.
        """
        future: Future[_T] = Future()
        try:
            task = _Task(future, pickle.dumps((fn, args, kwargs)))
        except Exception as error:
            future.set_exception(error)
            return future
        with self._lock:
            if self._closing:
                raise RuntimeError("a WorkerPool takes no tasks after its shutdown")
            self._queue.append(task)
            self._ring()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; cancel what is queued if told to, and wait for the rest.

        To cancel and not to wait means to kill: the futures of what runs raise CancelledError.
        """
        with self._lock:
            self._closing = True
            self._killing |= cancel_futures and not wait
            dropped = [self._queue.popleft() for _ in range(len(self._queue) * cancel_futures)]
            self._ring()
        _cancel(dropped)
        # Done-callbacks run in the dispatcher, which cannot wait for itself.
        if (wait or cancel_futures) and threading.current_thread() is not self._thread:
            self._thread.join()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for all tasks; after an exception, such as that of Ctrl-C, kill them."""
        self.shutdown(wait=kind is None, cancel_futures=kind is not None)

    def _ring(self) -> None:
        """Wake the dispatcher; rung only once, since a full pipe would block."""
        if not self._rung:
            self._rung = True
            self._bell.send_bytes(b"")

    def _dispatch(self) -> None:
        """Hand out tasks and take in their results, until the pool is shut down."""
        try:
            while not self._killing:
                for worker in self._workers:
                    # More than once where a process cannot be started, so that none is left.
                    while worker.task is None and (task := self._next()):
                        worker.take(task)
                busy = any(worker.task for worker in self._workers)
                if self._closing and not busy and not self._queue:
                    break
                # Pipes do not tell what is overdue, nor a death while a child holds the pipe.
                patience = _GRACE / 2 if busy else None
                wait([self._ear, *(w.pipe for w in self._workers if w.process)], patience)
                with self._lock:
                    if self._rung:
                        self._ear.recv_bytes()
                        self._rung = False
                for worker in self._workers:
                    worker.attend()
        finally:
            with self._lock:
                self._closing = True
            _cancel(self._queue)
            alive = [worker for worker in self._workers if worker.process]
            for worker in alive:
                worker.pipe.close()  # to an idle process this says goodbye
            for worker in alive:
                worker.stop(0 if worker.task else _GRACE)
                worker.fail(CancelledError())
            self._folder.cleanup()

    def _next(self) -> "_Task | None":
        with self._lock:
            while self._queue:
                task = self._queue.popleft()
                if task.future.set_running_or_notify_cancel():
                    return task
        return None


class _Task(NamedTuple):
    future: Future[Any]
    pickled: bytes


def _cancel(tasks: Iterable[_Task]) -> None:
    for task in tasks:
        if task.future.cancel():
            task.future.set_running_or_notify_cancel()  # or `as_completed` waits for ever


class _Worker:
    """One place in the pool: its task and its process, which is replaced when it dies."""

    pipe: Connection

    def __init__(self, seconds: float, log: Path) -> None:
        self.seconds, self.log = seconds, log
        self.task: _Task | None = None
        self.deadline = float("inf")  # of the task
        self.process: SpawnProcess | None = None
        self.ready = False

    def take(self, task: _Task) -> None:
        """Run a task, in a new process if there is none; its future says if that cannot be."""
        self.task = task
        try:
            self.send(task) if self.process else self.start()
        except Exception as error:
            self.fail(error)

    def start(self) -> None:
        """Start a process, which is sent its task once it is ready."""
        if sys.platform != "win32":
            # The mask is inherited: no Ctrl-C reaches a process that is still importing.
            # The tracker lifts it when it starts, and so is started before.
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.log.write_bytes(b"")
        _notes(self.log).write_bytes(b"")
        self.pipe, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_work, args=(theirs, self.log, self.seconds), daemon=True)
        with theirs:
            process.start()
        self.process, self.ready = process, False
        self.deadline = time.monotonic() + _START + self.seconds

    def send(self, task: _Task) -> None:
        """Send the task to the process, which listens, so that even a large one does not block."""
        self.deadline = time.monotonic() + self.seconds
        try:
            self.pipe.send_bytes(task.pickled)
        except OSError:  # the process died idle, which is not this task's doing
            self.stop(0)
            self.start()

    def attend(self) -> None:
        """Take in what the process says, or end it if it is dead or overdue."""
        if self.process is None:
            return
        dead = self.process.exitcode is not None  # asked first: nothing is written after
        try:
            message = self.pipe.recv_bytes() if self.pipe.poll() else None
        except (EOFError, OSError):
            message, dead = None, True
        now = time.monotonic()
        if message is not None and self.task:
            if self.ready:
                task, self.task, self.deadline = self.task, None, float("inf")
                _settle(task.future, message)
            else:
                self.ready = True
                self.take(self.task)
        elif dead or now >= self.deadline + _GRACE:
            late = now >= self.deadline
            exitcode, *words = self.stop(0 if late else _GRACE)
            self.fail(WorkerTimeout(self.seconds, *words) if late else WorkerDied(exitcode, *words))

    def fail(self, error: BaseException) -> None:
        """Give the task, if there is one, an exception for a result."""
        task, self.task, self.deadline = self.task, None, float("inf")
        if task:
            task.future.set_exception(error)

    def stop(self, patience: float) -> tuple[int, str, str]:
        """End the process, after `patience` seconds by force; return exit code, output and note."""
        assert self.process
        self.pipe.close()
        self.process.join(patience)
        _kill_group(self.process.pid)
        self.process.kill()  # it has no group before it is ready
        self.process.join()
        exitcode, self.process = self.process.exitcode or 0, None
        with self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 2**16))
            text = log.read().decode(errors="replace")
        # A crash lists all compiled modules, at length, after its traceback.
        output = re.sub(r"(?m)^Extension modules: .*\n", "", text)[-_OUTPUT:]
        return exitcode, output, _notes(self.log).read_text("utf-8", "replace")


def _settle(future: Future[Any], reply: bytes) -> None:
    """Give the future what `_perform` made of its task."""
    succeeded, pickled, text = pickle.loads(reply)
    try:
        value = pickle.loads(pickled)
    except Exception:
        succeeded, value = False, None
    if succeeded:
        future.set_result(value)
    elif isinstance(value, Exception):
        with contextlib.suppress(Exception):  # it may be frozen
            value.add_note(f"in a worker process:\n{text}")
        future.set_exception(value)
    else:
        future.set_exception(RuntimeError(text))


def _notes(log: Path) -> Path:
    return log.with_suffix(".notes")


_noting: int | None = None  # in a worker process, the file of its notes


def note(text: str) -> None:
    """Write down what a task is at, which is told if its process is killed: the last note counts.

    Elsewhere than in a worker process it is nobody's concern.
    """
    if _noting is not None:
        os.ftruncate(_noting, 0)
        os.write(_noting, text.encode("utf-8", "backslashreplace"))


def _work(pipe: Connection, path: Path, seconds: float) -> None:
    """Be a worker process: run what comes through the pipe until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    if sys.platform != "win32":
        os.setpgrp()
    global _noting
    log, _noting = (os.open(p, os.O_WRONLY | os.O_APPEND) for p in (path, _notes(path)))
    os.dup2(log, 1)
    os.dup2(log, 2)
    # Unbuffered: a crash loses nothing.
    stdout = open(1, "wb", buffering=0, closefd=False)  # noqa: SIM115 (open to the end)
    sys.stdout = io.TextIOWrapper(stdout, "utf-8", "backslashreplace", write_through=True)
    sys.stderr = sys.stdout
    faulthandler.enable(log)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    home = os.getcwd()
    with contextlib.suppress(EOFError, OSError):
        pipe.send_bytes(b"ready")
        while True:
            task = pipe.recv_bytes()
            os.ftruncate(log, 0)
            note("")
            if seconds < threading.TIMEOUT_MAX:
                # Timed here as well: this thread needs no interpreter lock and no parent, and
                # writes down where the task hangs.
                faulthandler.dump_traceback_later(seconds, exit=True, file=log)
            reply = _perform(task)
            faulthandler.cancel_dump_traceback_later()
            with contextlib.suppress(OSError):  # it may be gone
                os.chdir(home)  # where the paths of the next task start
            pipe.send_bytes(reply)


def _perform(task: bytes) -> bytes:
    """Run a task; return, pickled: did it succeed, its value pickled, what to say if that fails."""
    try:
        fn, args, kwargs = pickle.loads(task)
        succeeded, value = True, fn(*args, **kwargs)
        text = f"the result, of {type(value)}, cannot be passed between processes"
    except KeyboardInterrupt:
        raise  # no one has pressed a key: the task ends its process, and would end its caller's
    except BaseException as error:  # SystemExit too is the task's, and ends no worker
        succeeded, value, text = False, error, traceback.format_exc()
    try:
        pickled = pickle.dumps(value)
    except Exception as error:
        succeeded, pickled, text = False, b"", f"{text}: {error}" if succeeded else text
    return pickle.dumps((succeeded, pickled, text))


def _leave_with_parent() -> None:
    """Leave when the parent is gone, however it went and whatever runs here."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    _kill_group(os.getpid())
    os._exit(1)


def _kill_group(pid: int | None) -> None:
    """Kill a worker and all that it started, where there are process groups."""
    if sys.platform != "win32" and pid:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def last_words(output: str, file: str) -> tuple[int | None, str]:
    """Return (line of `file` where a killed task was, what it printed) from a task's output.

    The traceback that follows what was printed leads mostly through code that is not the user's.
    """
    path = str(Path(file).resolve()).encode("ascii", "backslashreplace").decode()
    line = re.search(rf'File "{re.escape(path)}", line (\d+)', output)
    own = r"(?m)^(?:Timeout \(|Fatal Python|Thread 0x|Current thread|Process SpawnProcess-)"
    said = re.split(own, output)[0]
    return (int(line[1]) if line else None), said.strip()
