"""The settings of a run of pytest: those of pyproject.toml and the environment, and its options."""

import zlib
from typing import cast

import pytest

from gradverify.checks.names import NAMES
from gradverify.config import Config, read_config
from gradverify.errors import UsageError, nearest
from gradverify.tables import SECONDS, SEED, Single

_SETTINGS = pytest.StashKey[Config]()


def settings_of(pytest_config: pytest.Config) -> Config:
    """Return the settings that hold in a run of pytest; UsageError for what cannot be meant.

    They are those of the nearest pyproject.toml from rootdir upwards; where that says nothing, as
    with `--rootdir`, from the folder in which pytest was started.
    """
    if _SETTINGS not in pytest_config.stash:
        given = _options(pytest_config)
        found = read_config(pytest_config.rootpath)
        if not (found.specs or found.modules):
            here = read_config(pytest_config.invocation_params.dir)
            found = here if here.specs or here.modules else found
        settings = found.given(**given)
        _ = settings.chosen  # there has to be such a profile
        pytest_config.stash[_SETTINGS] = settings
    return pytest_config.stash[_SETTINGS]


def _options(pytest_config: pytest.Config) -> dict[str, tuple[str, object | None]]:
    seed = _number(pytest_config, "--gradverify-seed", SEED), "--gradverify-seed"
    if seed[0] is None:
        seed = _seed_of_hypothesis(pytest_config), "--hypothesis-seed"
    timeout = _number(pytest_config, "--gradverify-timeout", SECONDS)
    return {
        "profile": ("--gradverify-profile", pytest_config.getoption("--gradverify-profile")),
        "seed": (seed[1], seed[0]),
        "timeout": ("--gradverify-timeout", timeout),
    }


def _number(pytest_config: pytest.Config, option: str, kind: Single) -> object | None:
    text = pytest_config.getoption(option)
    if text is None:
        return None
    try:
        return cast(object, kind.of_text(text))
    except ValueError as what:
        raise UsageError(f"{option}: {text!r} is not {what}") from None


def _seed_of_hypothesis(pytest_config: pytest.Config) -> int | None:
    """Return the seed that Hypothesis is given, which may be any text, as a number."""
    text = pytest_config.getoption("--hypothesis-seed", None)
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() else zlib.crc32(text.encode())


def checks_of(pytest_config: pytest.Config, option: str) -> tuple[str, ...]:
    """Return the checks that an option names; UsageError has the nearest for one not known."""
    named = [n.strip() for text in pytest_config.getoption(option) for n in text.split(",")]
    for name in named:
        if name not in NAMES:
            raise UsageError(f"{option}: there is no check {name!r}; {nearest(name, NAMES)}")
    return tuple(named)
