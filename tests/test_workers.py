"""WorkerPool: what a task may do to its process, and what the rest of the pool notices of it."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, as_completed
from pathlib import Path

import pytest

from gradverify import workers
from gradverify.workers import WorkerDied, WorkerPool, WorkerTimeout

LONG = 60.0  # seconds: never reached where all is well


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1, LONG) as pool:
        yield pool


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    """A named pipe that ends for its reader when the last process that writes to it is gone."""
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


def hold(fifo: str) -> None:
    """Say that the task runs, and much later, if nobody kills it, that it survived."""
    with open(fifo, "w") as pipe:
        print("running", file=pipe, flush=True)
        time.sleep(LONG / 2)
        print("survived", file=pipe, flush=True)


def hang_up_on(fifo: str) -> None:
    """Die, and leave behind a child that keeps all open files open."""
    if os.fork() == 0:
        hold(fifo)
        os._exit(0)
    os._exit(3)


def print_and(action, *args):
    print("printed")
    os.system("echo echoed")
    print("unfinished", end="")
    return action(*args)


def crash_with_numpy():
    import numpy  # noqa: F401

    signal.raise_signal(signal.SIGSEGV)


def wait_for_ever():
    threading.Event().wait()


class TwoArguments(Exception):
    """An exception that can be pickled, and cannot be made again from its pickle."""

    def __init__(self, one, two):
        super().__init__("both")


def raise_two_arguments():
    raise TwoArguments(1, 2)


def raise_local():
    class Local(Exception):
        pass

    raise Local("not to be found by its name")


def test_a_result_comes_from_another_process(pool):
    """A task runs with its arguments, in a process that is not this one."""
    assert pool.submit(int, "ff", base=16).result() == 255
    assert pool.submit(os.getpid).result() != os.getpid()


def test_map_keeps_the_order(pool):
    """`Executor.map`, which is inherited, works."""
    assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]


def test_a_process_is_used_again(pool):
    """Tasks that do no harm share one process."""
    assert pool.submit(os.getpid).result() == pool.submit(os.getpid).result()


def test_workers_run_at_the_same_time(fifo):
    """Two workers run two tasks that only together can end: a pipe's writer and its reader."""
    with WorkerPool(2, LONG) as pool:
        reader = pool.submit(Path.read_text, Path(fifo))
        writer = pool.submit(Path.write_text, Path(fifo), "met")
        assert (reader.result(), writer.result()) == ("met", 3)


def test_large_arguments_and_results(pool):
    """What is larger than the buffer of any pipe passes both ways."""
    large = bytes(3_000_000)
    assert pool.submit(bytes.upper, large).result() == large


def test_a_task_over_its_time_is_killed():
    """A task that hangs is a WorkerTimeout that shows where it hung; the next one runs."""
    with WorkerPool(1, 1.0) as pool:
        hung, fine = pool.submit(print_and, wait_for_ever), pool.submit(abs, -1)
        with pytest.raises(WorkerTimeout) as caught:
            hung.result()
        assert str(caught.value) == "no result within 1 s: its process was killed"
        assert caught.value.seconds == 1.0
        assert caught.value.output.startswith("printed\nechoed\nunfinished")
        assert "in wait_for_ever" in caught.value.output
        assert fine.result() == 1


def test_a_process_that_cannot_time_itself_is_killed():
    """A process that is stopped altogether is timed from outside."""
    with WorkerPool(1, 0.5) as pool, pytest.raises(WorkerTimeout):
        pool.submit(signal.raise_signal, signal.SIGSTOP).result(LONG)


@pytest.mark.parametrize(
    ("action", "argument", "exitcode", "message"),
    [
        (os._exit, 3, 3, "its process exited with code 3"),
        (os._exit, 0, 0, "its process exited with code 0"),
        (signal.raise_signal, signal.SIGKILL, -9, "its process died of SIGKILL"),
        (signal.raise_signal, signal.SIGSEGV, -11, "its process died of SIGSEGV"),
    ],
)
def test_a_task_that_takes_its_process_with_it(pool, action, argument, exitcode, message):
    """A death is a WorkerDied that names it and keeps what was printed; the next task runs."""
    died, fine = pool.submit(print_and, action, argument), pool.submit(abs, -1)
    with pytest.raises(WorkerDied) as caught:
        died.result()
    assert (caught.value.exitcode, str(caught.value)) == (exitcode, message)
    assert caught.value.output.startswith("printed\nechoed\nunfinished")
    assert fine.result() == 1


def test_a_crash_shows_where(pool):
    """The output of a crash ends with its Python traceback, not with the list of all modules."""
    error = pool.submit(crash_with_numpy).exception()
    assert "in crash_with_numpy" in error.output
    assert "numpy.linalg" not in error.output


def test_a_death_is_its_own_task_s_only():
    """Of many tasks on two workers, those that die fail and all others give their results."""
    with WorkerPool(2, LONG) as pool:
        futures = [pool.submit(os._exit if i % 5 == 2 else abs, i) for i in range(12)]
        exceptions = [future.exception() for future in futures]
    died = [i for i, exception in enumerate(exceptions) if isinstance(exception, WorkerDied)]
    assert died == [2, 7]
    assert [i for i, exception in enumerate(exceptions) if exception is None] == [
        i for i in range(12) if i not in died
    ]


@pytest.mark.parametrize("noticed", [True, False])
def test_a_process_that_dies_idle_is_replaced(pool, monkeypatch, noticed):
    """A process that dies between two tasks fails neither, even if only the second one tells."""
    first = pool.submit(os.getpid).result()
    attend = workers._Worker.attend
    if not noticed:
        monkeypatch.setattr(workers._Worker, "attend", lambda self: self.task and attend(self))
    os.kill(first, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # the pool may be the first to reap it
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert pool.submit(os.getpid).result() != first


def test_a_child_of_a_dead_process_goes_too(pool, fifo):
    """A death is noticed while a child holds the pipe open, and the child does not outlive it."""
    future = pool.submit(hang_up_on, fifo)
    with open(fifo) as pipe:
        assert pipe.read() == "running\n"
    assert future.exception().exitcode == 3


def test_an_exception_is_passed_back(pool):
    """A future raises what its function raised, with the worker's traceback as a note."""
    with pytest.raises(ValueError, match="invalid literal for int") as caught:
        pool.submit(int, "x").result()
    assert caught.value.__notes__[0].startswith("in a worker process:\nTraceback")


@pytest.mark.parametrize(
    ("function", "name"),
    [(raise_local, "Local: not to be found"), (raise_two_arguments, "TwoArguments: both")],
)
def test_an_exception_that_cannot_be_pickled_is_told(pool, function, name):
    """An exception that cannot be passed on, at either end, becomes its traceback's text."""
    with pytest.raises(RuntimeError, match=name):
        pool.submit(function).result()


def test_a_task_cannot_end_its_caller(pool):
    """SystemExit comes back as a RuntimeError, and ends neither the worker nor the parent."""
    first = pool.submit(os.getpid).result()
    with pytest.raises(RuntimeError, match="SystemExit: 0"):
        pool.submit(sys.exit, 0).result()
    assert pool.submit(os.getpid).result() == first


def test_a_result_that_cannot_be_pickled_is_told(pool):
    """The error names the type of the result."""
    with pytest.raises(RuntimeError, match=r"_thread\.lock.* cannot be passed between processes"):
        pool.submit(threading.Lock).result()


def test_a_task_that_cannot_be_pickled_is_told(pool):
    """The future of a function that cannot be sent raises why; the pool goes on."""
    assert pool.submit(lambda: 1).exception() is not None
    assert pool.submit(abs, -1).result() == 1


def test_a_process_that_cannot_be_started_is_told(pool, monkeypatch):
    """Where no process can be started, every future says why instead of waiting for ever."""
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_work", lambda: None)  # cannot be pickled
        futures = [pool.submit(abs, -1) for _ in range(3)]
        assert all("<lambda>" in str(future.exception()) for future in futures)
    assert pool.submit(abs, -1).result() == 1


def test_prints_do_not_reach_the_parent_s_output(capfd):
    """Neither `print` nor a subprocess in a task writes to the parent's stdout or stderr."""
    with WorkerPool(1, LONG) as pool:
        pool.submit(print_and, abs, -1).result()
        pool.submit(os.system, "echo loud >&2").result()
    assert capfd.readouterr() == ("", "")


def test_output_is_the_task_s_own_and_short(pool):
    """An error shows the end of what its task wrote, and nothing of the task before."""
    pool.submit(print_and, abs, -1).result()
    assert pool.submit(os.system, "echo mine; kill -9 $PPID").exception().output == "mine\n"
    long = pool.submit(os.system, "seq 100000; kill -9 $PPID").exception().output
    assert len(long) == workers._OUTPUT
    assert long.endswith("99999\n100000\n")


def interrupt():
    raise KeyboardInterrupt


def test_a_task_that_interrupts_ends_its_own_process(pool):
    """As if a key had been pressed: it dies with its last words, and the pool goes on."""
    died = pool.submit(interrupt).exception()
    assert isinstance(died, WorkerDied)
    assert died.exitcode == 1
    assert "in interrupt" in died.output
    assert pool.submit(abs, -1).result() == 1


def test_every_task_starts_in_the_folder_of_the_first(pool):
    """What one does to the current directory is nothing to the next."""
    pool.submit(os.chdir, "/").result()
    assert {pool.submit(os.getcwd).result() for _ in range(4)} == {os.getcwd()}


def test_ctrl_c_is_not_for_workers(pool):
    """SIGINT, which a terminal sends to all processes, does not interrupt a task."""
    assert pool.submit(signal.raise_signal, signal.SIGINT).result() is None


def test_shutdown_waits_for_all_tasks():
    """Leaving the `with` block finishes what runs and what is queued."""
    with WorkerPool(1, LONG) as pool:
        futures = [pool.submit(abs, i) for i in range(5)]
    assert [future.result(timeout=0) for future in futures] == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="takes no tasks after its shutdown"):
        pool.submit(abs, 1)


def test_shutdown_kills_when_told(fifo):
    """Cancelling without waiting kills what runs, cancels what is queued and wakes who waits."""
    pool = WorkerPool(1, LONG)
    running, queued = pool.submit(hold, fifo), pool.submit(abs, 1)
    with open(fifo) as pipe:
        assert pipe.readline() == "running\n"
        pool.shutdown(wait=False, cancel_futures=True)
        assert pipe.read() == ""
    assert set(as_completed([running, queued], LONG)) == {running, queued}
    assert queued.cancelled()
    with pytest.raises(CancelledError):
        running.result()
    pool.shutdown()


def test_shutdown_can_cancel_only_what_is_queued(fifo):
    """Cancelling and waiting lets what runs come to its end."""
    pool = WorkerPool(1, LONG)
    running, queued = pool.submit(Path.read_text, Path(fifo)), pool.submit(abs, 1)
    with open(fifo, "w") as pipe:  # opens once the task reads
        pipe.write("end")
    pool.shutdown(wait=True, cancel_futures=True)
    assert running.result(timeout=0) == "end"
    assert queued.cancelled() or queued.result(timeout=0) == 1


def test_an_exception_in_the_with_block_kills(fifo):
    """Ctrl-C in the parent does not wait for what runs."""
    with pytest.raises(KeyboardInterrupt), WorkerPool(1, LONG) as pool:  # noqa: PT012
        running = pool.submit(hold, fifo)
        with open(fifo) as pipe:
            assert pipe.readline() == "running\n"
        raise KeyboardInterrupt
    assert isinstance(running.exception(timeout=0), CancelledError)


def test_a_callback_may_shut_the_pool_down():
    """Stopping at the first failure, from its callback, does not make the pool wait for itself."""
    pool = WorkerPool(1, LONG)
    stopped = threading.Event()

    def stop(_):
        pool.shutdown(wait=False, cancel_futures=True)
        stopped.set()

    pool.submit(int, "x").add_done_callback(stop)
    assert stopped.wait(LONG)
    pool.shutdown()


def test_a_queued_task_can_be_cancelled(pool, fifo):
    """A future that is cancelled before its turn is never run."""
    running = pool.submit(Path.read_text, Path(fifo))
    queued = pool.submit(os._exit, 1)
    with open(fifo, "w"):  # opens once the task reads, which ends when this is closed
        assert queued.cancel()
    assert running.result() == ""
    assert pool.submit(abs, -1).result() == 1


def test_no_worker_outlives_its_parent(fifo, tmp_path):
    """A parent that is killed takes with it a worker that is busy and would not look."""
    script = (
        "import sys; from test_workers import WorkerPool, hold\n"
        "if __name__ == '__main__': WorkerPool(1, None).submit(hold, sys.argv[1]).result()"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environ = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script, fifo]
    with subprocess.Popen(command, env=environ) as parent, open(fifo) as pipe:
        assert pipe.readline() == "running\n"
        parent.kill()
        assert pipe.read() == ""


def test_errors_can_be_passed_on():
    """WorkerDied and WorkerTimeout keep what they say through a pickle."""
    for error in (WorkerDied(-9, "out"), WorkerTimeout(2.5, "out")):
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.output) == (str(error), "out")
    assert str(WorkerDied(-35)) == "its process died of signal 35"  # one without a name


@pytest.mark.parametrize(("count", "timeout"), [(0, None), (1, 0.0), (1, -1.0)])
def test_a_pool_that_cannot_be(count, timeout):
    """A pool without workers, or whose tasks have no time, is refused."""
    with pytest.raises(ValueError, match="no pool can have"):
        WorkerPool(count, timeout)


def test_importing_it_is_cheap():
    """The module loads nothing of gradverify and none of its dependencies."""
    script = "import sys; import gradverify.workers; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {name for name in result.stdout.split() if name.startswith("gradverify")}
    assert loaded == {"gradverify", "gradverify.workers"}
    assert not {"numpy", "sympy", "hypothesis", "rich"} & set(result.stdout.split())
