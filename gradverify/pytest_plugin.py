"""The pytest plugin: its options, and whether there is anything for it to do in a project.

What it takes to verify is imported where there is, and registered then: see plugin/session.py.
"""

import pytest

# The pytest that runs in this process, after those in whose tests it was started.
RUNNING: list[pytest.Config] = []

_OPTIONS = ("profile", "seed", "timeout", "select", "ignore")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run, which mean what they mean to `gradverify verify`."""
    add = parser.getgroup("gradverify", "verification of hand-written gradients").addoption
    add("--gradverify-profile", metavar="NAME",
        help="how many cases: quick, default, thorough or a profile of pyproject.toml")  # fmt: skip
    add("--gradverify-seed", metavar="N",
        help="draw other cases (default: that of --hypothesis-seed, else 0)")  # fmt: skip
    add("--gradverify-timeout", metavar="SECONDS", help="for each layer (default: 300)")
    add("--gradverify-select", metavar="CHECK[,CHECK]", action="append", default=[],
        help="make only these checks (default: all)")  # fmt: skip
    add("--gradverify-ignore", metavar="CHECK[,CHECK]", action="append", default=[],
        help="make all checks but these")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and all else where a project makes use of gradverify."""
    config.addinivalue_line("markers", "gradverify: a check of a hand-written gradient")
    RUNNING.append(config)
    if _is_used(config):
        from gradverify.errors import UsageError
        from gradverify.plugin.session import Verification

        try:
            config.pluginmanager.register(Verification(config), "gradverify-verification")
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Forget the run."""
    if config in RUNNING:
        RUNNING.remove(config)


def _is_used(config: pytest.Config) -> bool:
    """Whether an option is given, or the nearest pyproject.toml speaks of gradverify.

    Where neither is so, which is most often, reading settings would be a waste of time.
    """
    if any(config.getoption(f"gradverify_{name}") for name in _OPTIONS):
        return True
    for start in {config.rootpath, config.invocation_params.dir}:
        files = (folder / "pyproject.toml" for folder in (start, *start.parents))
        nearest = next((file for file in files if file.is_file()), None)
        if nearest is not None and b"gradverify" in nearest.read_bytes():
            return True
    return False
