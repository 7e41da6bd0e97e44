"""The settings: what pyproject.toml and the environment say, and what is told of mistakes."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from gradverify.config import (
    PROFILES,
    Config,
    GatePolicy,
    KnownFailure,
    Override,
    Profile,
    Unregistered,
    read_config,
    require_known,
)
from gradverify.errors import UsageError

FULL = """
[tool.gradverify]
specs = ["specs", "more/relu.py"]
modules = ["mylib.layers"]
profile = "ci"
seed = 7
timeout = 90
jobs = 2

[tool.gradverify.profiles.ci]
covering = 40
dtypes = ["float64"]
seconds = 60

[tool.gradverify.profiles.most]
drawn = 1000

[[tool.gradverify.overrides]]
layer = "numpy_lstm*"
profile = "quick"
ignore = ["exact"]
reason = "slow"

[[tool.gradverify.known_failures]]
layer = "numpy_lstm"
check = "symbolic"
reason = "under repair"
expires = 2027-01-31

[tool.gradverify.gate]
paths = ["mylib"]
require = ["symbolic"]
require_definition = true
min_power = 1
[[tool.gradverify.gate.unregistered]]
name = "mylib.old:Thing"
reason = "not used"
"""


@pytest.fixture
def read(tmp_path):
    """Return what reads a text as the pyproject.toml of a project, with some environment."""

    def read(text, **environment):
        (tmp_path / "pyproject.toml").write_text(text, "utf-8")
        return read_config(tmp_path, environment)

    return read


def wrong(read, text, **environment):
    with pytest.raises(UsageError) as caught:
        read(text, **environment)
    return str(caught.value)


def test_all_that_can_be_said_is_read(read, tmp_path):
    """Every table becomes data; what is left out of a table has its default."""
    config = read(FULL)
    assert (config.root, config.file) == (tmp_path, tmp_path / "pyproject.toml")
    assert (config.specs, config.modules) == (("specs", "more/relu.py"), ("mylib.layers",))
    assert (config.profile, config.seed, config.timeout, config.jobs) == ("ci", 7, 90.0, 2)
    assert config.profiles == {
        "ci": Profile(40, 25, 24, ("float64",), 60.0, "ci"),
        "most": Profile(None, 1000, 24, name="most"),
    }
    assert config.overrides == (Override("numpy_lstm*", "slow", "quick", ("exact",)),)
    (known,) = config.known_failures
    assert known == KnownFailure("numpy_lstm", "under repair", date(2027, 1, 31), "symbolic")
    assert config.gate == GatePolicy(
        paths=("mylib",), require=("symbolic",), require_definition=True, min_power=1.0,
        unregistered=(Unregistered("mylib.old:Thing", "not used"),),
    )  # fmt: skip
    assert config.chosen is config.profiles["ci"]


def test_without_a_file_or_table_there_are_defaults(read, tmp_path):
    """A folder without pyproject.toml, and one whose file says nothing of gradverify."""
    bare = read_config(tmp_path / "nowhere", {})
    config = read("[tool.other]\nseed = 1\n")
    assert (config.specs, config.profile, config.seed, config.timeout) == ((), "default", 0, 300.0)
    assert config.jobs is None
    assert config.gate.record == "gradverify-layers.txt"
    assert config.chosen is PROFILES["default"]
    assert set(config.origin.values()) == {"default"}
    assert (bare.file, bare.specs) == (None, ())


def test_the_nearest_file_upwards_counts(read, tmp_path):
    """From a folder of a project, or a file in it, its settings are found."""
    read('[tool]\ngradverify = {specs = ["specs"]}\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert read_config(inner, {}) == read_config(tmp_path, {})
    assert read_config(inner / "file.py", {}).root == tmp_path
    assert read_config(inner, {}).specs == ("specs",)


def test_a_known_failure_counts_until_its_last_day(read):
    """On the day of `expires` a failure is still known, and the day after it is not."""
    (known,) = read(FULL).known_failures
    assert known.counts(date(2027, 1, 31))
    assert not known.counts(date(2027, 2, 1))


def test_the_environment_goes_before_the_file_and_options_before_both(read):
    """Defaults < pyproject.toml < environment < options, and the origin of each is known."""
    config = read(FULL, GRADVERIFY_PROFILE="quick", GRADVERIFY_SEED="3", GRADVERIFY_JOBS="")
    assert (config.profile, config.seed, config.jobs) == ("quick", 3, 2)
    config = config.given(seed=("--seed", 0), profile=("--profile", None))
    assert (config.profile, config.seed) == ("quick", 0)
    assert config.origin["profile"] == "GRADVERIFY_PROFILE"
    assert config.origin["seed"] == "--seed"
    assert config.origin["timeout"] == "pyproject.toml"
    assert config.origin["gate"] == "pyproject.toml"
    assert read("[tool.gradverify]\n").origin["timeout"] == "default"
    assert read("", GRADVERIFY_TIMEOUT="1.5").timeout == 1.5


TABLE = "[tool.gradverify]\n"
FAILURE = '[[tool.gradverify.known_failures]]\nlayer = "x"\nreason = "y"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TABLE + 'spec = ["specs"]', "[tool.gradverify] there is no key 'spec'; did you mean 'specs'?"),
        (TABLE + 'specs = "specs"', "[tool.gradverify] specs = 'specs': it has to be a list, such as [\"specs\"]"),
        (TABLE + "specs = [1]", "specs = [1]: it has to be a list"),
        (TABLE + "seed = true", "seed = True: it has to be a whole number from 0"),
        (TABLE + "seed = -1", "seed = -1: it has to be a whole number from 0"),
        (TABLE + "jobs = 0", "jobs = 0: it has to be a whole number from 1"),
        (TABLE + "timeout = inf", "timeout = inf: it has to be a number of seconds above 0"),
        (TABLE + 'profile = "quik"', "[tool.gradverify] profile: there is no profile 'quik'; did you mean 'quick'?"),
        (TABLE + 'gate = "strict"', "[tool.gradverify.gate] is 'strict': it has to be a table"),
        (TABLE + "overrides = 1", "overrides = 1: it has to be a list of tables, each under [[tool.gradverify.overrides]]"),
        ("[tool]\ngradverify = 3", "[tool] gradverify = 3: it has to be a table: [tool.gradverify]"),
        ("[tool.gradverify.profiles.ci]\ndrawm = 3", "[tool.gradverify.profiles.ci] there is no key 'drawm'; did you mean 'drawn'?"),
        ("[tool.gradverify.profiles.ci]\ncovering = 0", "[tool.gradverify.profiles.ci] covering = 0: it has to be a whole number from 1"),
        ("[tool.gradverify.profiles.quick]\n", "[tool.gradverify.profiles.quick] has a name that is built in: choose another"),
        ('[tool.gradverify.profiles."\\u001b\\n"]\nx = 3', "[tool.gradverify.profiles.'\\x1b\\n'] there is no key 'x'"),
        ('[[tool.gradverify.overrides]]\nlayer = "x"\nreason = "y"', "[[tool.gradverify.overrides]] no. 1 changes nothing: give it a profile, or checks to ignore"),
        ('[[tool.gradverify.overrides]]\nlayer = "x"', "[[tool.gradverify.overrides]] no. 1 has no reason, which is required"),
        ('[[tool.gradverify.overrides]]\nlayer = "x"\nreason = " "', "no. 1 reason = ' ': it has to be a text that is not empty"),
        ('[[tool.gradverify.overrides]]\nlayer = "x"\nreason = "y"\nprofile = "z"', "[[tool.gradverify.overrides]] no. 1 profile: there is no profile 'z'; known are"),
        (FAILURE, "[[tool.gradverify.known_failures]] no. 1 has no expires, which is required"),
        (FAILURE + 'expires = "2027-01-31"', "expires = '2027-01-31': it has to be a date without quotes"),
        (FAILURE + "expires = 2027-01-31T00:00:00", "it has to be a date without quotes, such as 2030-01-31"),
        ("[tool.gradverify.gate]\nmin_power = 95", "min_power = 95: it has to be a number from 0 to 1"),
        ("[tool.gradverify.gate]\nrequire_definition = 1", "require_definition = 1: it has to be true or false"),
        ("[tool.gradverify", "cannot be read: Expected ']'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(read, tmp_path, text, told):
    """An unknown key, a wrong type and a missing one: file, table, key, and what to write."""
    message = wrong(read, text)
    assert message.startswith(str(tmp_path / "pyproject.toml"))
    assert told in message


def test_a_long_value_is_not_repeated_at_length(read):
    """A message shows the start of a wrong value."""
    assert len(wrong(read, TABLE + f'seed = "{"x" * 9999}"')) < 400


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("SEED", "abc", "GRADVERIFY_SEED='abc': it has to be a whole number from 0"),
        ("JOBS", "0", "GRADVERIFY_JOBS='0': it has to be a whole number from 1"),
        ("TIMEOUT", "nan", "GRADVERIFY_TIMEOUT='nan': it has to be a number of seconds above 0"),
    ],
)
def test_a_wrong_variable_is_told(read, variable, text, told):
    """A variable of the environment that is no number is named."""
    assert wrong(read, "", **{f"GRADVERIFY_{variable}": text}) == told


def test_a_profile_of_the_environment_is_looked_for_when_it_is_needed(read):
    """Another project's profile in the environment stops nobody who verifies nothing."""
    config = read("", GRADVERIFY_PROFILE="cii")
    with pytest.raises(UsageError, match="GRADVERIFY_PROFILE: there is no profile 'cii'; known"):
        _ = config.chosen


def test_a_budget_that_the_timeout_cuts_short_is_told(read):
    """A profile that may take longer than a layer is given is a mistake."""
    config = read(FULL, GRADVERIFY_TIMEOUT="60")
    with pytest.raises(
        UsageError, match=r"^GRADVERIFY_TIMEOUT: a layer would be stopped after 60 s, b"
    ):
        _ = config.chosen


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[[tool.gradverify.overrides]]\nlayer = "x"\nreason = "y"\nignore = ["exakt"]',
            "[[tool.gradverify.overrides]] no. 1 ignore: there is no check 'exakt'; did you mean",
        ),
        (
            FAILURE + 'expires = 2027-01-31\ncheck = "exakt"',
            "[[tool.gradverify.known_failures]] no. 1 check: there is no check 'exakt'",
        ),
        ('[tool.gradverify.gate]\nrequire = ["exakt"]', "[tool.gradverify.gate] require: there"),
        (
            '[tool.gradverify.profiles.ci]\ndtypes = ["float46"]',
            "[tool.gradverify.profiles.ci] dtypes: there is no dtype 'float46'; did you mean 'flo",
        ),
    ],
)
def test_a_check_or_dtype_that_there_is_not_is_told(read, text, told):
    """Names that only others know are compared with theirs."""
    with pytest.raises(UsageError) as caught:
        require_known(read(text), ("exact",), ("float64",))
    assert told in str(caught.value)
    require_known(read(FULL), ("exact", "symbolic"), ("float64",))


def test_reading_imports_little(tmp_path):
    """Neither NumPy nor, where no file names gradverify, a reader of TOML is imported."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    code = (
        "import sys; from pathlib import Path; from gradverify.config import read_config;"
        "read_config(Path.cwd()); print(*sorted({'numpy', 'sympy', 'tomllib'} & {*sys.modules}))"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, cwd=tmp_path, capture_output=True, check=True).stdout == b"\n"
    (tmp_path / "pyproject.toml").write_text("[tool.gradverify]\n")
    assert b"tomllib" in subprocess.run(run, cwd=tmp_path, capture_output=True, check=True).stdout


def test_settings_are_plain_data():
    """They can be compared, and made without a file."""
    assert Config(Path("x")) == Config(Path("x"))
    assert Config(Path("x")).chosen is PROFILES["default"]
