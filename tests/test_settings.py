"""Settings that are applied: profiles of one's own, budgets of time, overrides, and `config`."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gradverify import Layer, Profile, Spec, UsageError, Verdict, verify
from gradverify.checks.names import NAMES
from gradverify.cli import main
from gradverify.config import PROFILES, Config, Override, read_config
from gradverify.engine import verify_layer
from gradverify.errors import SpecError
from gradverify.jobs import Job, run_job
from gradverify.loading import content_hash, load

LAYERS = """\
from gradverify import Input, Output, Param, Spec

half = Spec("half", x=Input("N"), w=Param("N"), y=Output("N"), definition="y[n] = w[n]*x[n]")


@half.register
def right(x, w):
    return x * w, lambda dy: {"x": dy * w, "w": dy * x}


@half.register
def wrong(x, w):
    return x * w, lambda dy: {"x": dy * w, "w": -dy * x}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with a spec file; returns what writes its pyproject.toml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for variable in ("PROFILE", "SEED", "TIMEOUT", "JOBS"):
        monkeypatch.delenv(f"GRADVERIFY_{variable}", raising=False)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "half.py").write_text(LAYERS)
    return (tmp_path / "pyproject.toml").write_text


@pytest.fixture
def right(here, tmp_path):
    """The layer that is right."""
    (layer,) = (x for x in load(tmp_path / "specs" / "half.py") if x.name == "right")
    return layer


class TestProfile:
    def test_there_is_time_for_the_profile_of_an_override(self, here):
        """A layer is not stopped, and told to hang, before the time of its own profile is over."""
        here(
            "[tool.gradverify]\ntimeout = 30\n[tool.gradverify.profiles.long]\nseconds = 60\n"
            '[[tool.gradverify.overrides]]\nlayer = "right"\nprofile = "long"\nreason = "slow"\n'
        )
        config = read_config(Path.cwd())
        assert config.of_layer("wrong").profile.name == "default"
        with pytest.raises(UsageError, match="30 s, before the 60 s of profile 'long' are over"):
            config.of_layer("right")

    def test_drawn_cases_come_after_the_rows_of_the_covering_set(self, right):
        """A profile that limits the rows draws cases all the same."""
        (layer,) = verify(right, profile=Profile(3, 4, 6), checks=["contract"]).layers
        assert layer.coverage.cases == 3 + 4

    def test_the_budget_of_time_leaves_out_drawn_cases(self, right):
        """When it is spent all rows are asked, and the report says what was left out."""
        profile = Profile(14, 60, 6, seconds=1e-9, name="hurry")
        report = verify(right, profile=profile)
        (layer,) = report.layers
        assert (report.profile, report.ok, layer.coverage.cases) == ("hurry", True, 14)
        assert layer.remarks == (
            "the 60 drawn cases were left out: the 1e-09 s of profile hurry were spent",
        )

    def test_a_budget_that_is_not_spent_changes_nothing(self, right):
        """With time enough all cases are drawn and asked, and nothing is remarked."""
        (layer,) = verify(right, profile=Profile(3, 30, 6, seconds=1e6), checks=["forward"]).layers
        assert (layer.coverage.cases, layer.remarks) == (33, ())

    def test_a_run_that_asked_nothing_is_not_green(self, right):
        """Where no time was left for any case, the checks are vacuous."""
        report = verify(right, profile=Profile(0, 60, 6, seconds=1e-9))
        assert not report.ok
        assert report.layers[0].verdict is Verdict.INCOMPLETE
        assert report.layers[0].checks[0].reason == "there was no case"

    def test_dtypes_are_those_of_the_profile(self, right):
        """Others are not tried, which is remarked; with none that the layer takes nothing is."""
        (layer,) = verify(right, profile=Profile(3, 0, 6, ("float32",))).layers
        assert layer.remarks == ("float64 not tried: the profile names float32 only",)
        assert layer.coverage.factors["dtype"] == {"float32": 3}
        report = verify(right, profile=Profile(3, 0, 6, ("float16",)))
        assert not report.ok
        assert report.layers[0].remarks[0].startswith("float64, float32 not tried")

    def test_a_profile_is_found_by_its_name(self, here, right):
        """Those of the pyproject.toml that is here, also by a worker."""
        here("[tool.gradverify.profiles.tiny]\ncovering = 2\ndrawn = 0\n")
        (layer,) = verify(right, profile="tiny", checks=["contract"]).layers
        assert layer.coverage.cases == 2
        with pytest.raises(UsageError, match=r"^there is no profile 'tini'; did you mean 'tiny'\?"):
            verify(right, profile="tini")

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [({"drawn": -1}, "drawn=-1"), ({"dtypes": ("float46",)}, "'float46' is not one of")],
    )
    def test_a_profile_that_cannot_be_meant_is_told(self, right, wrong, told):
        """A count below zero or a dtype that there is not is an error."""
        with pytest.raises((UsageError, SpecError), match=told):
            verify(right, profile=Profile(**{"covering": 1, "drawn": 0, "sampled": 1, **wrong}))


class TestOverride:
    CONFIG = Config(
        root=None,
        overrides=(
            Override("numpy*", "first", profile="thorough"),
            Override("numpy_*", "slow", profile="quick"),
            Override("numpy_lstm", "old", ignore=("exact", "kinks")),
        ),
    )  # fmt: skip

    def test_all_that_match_count_together(self):
        """A glob and a name: the profile of one, what the other ignores, and both reasons."""
        own = self.CONFIG.of_layer("numpy_lstm")
        assert (own.profile, own.ignored) == (PROFILES["quick"], {"exact": "old", "kinks": "old"})
        assert own.remarks == ("profile quick: slow", "exact, kinks ignored: old")
        other = self.CONFIG.of_layer("lstm")
        assert (other.profile, other.ignored, other.remarks) == (PROFILES["default"], {}, ())

    def test_an_option_goes_before_an_override(self):
        """A profile or check that is asked for by an option or the environment is meant."""
        config = self.CONFIG.given(profile=("GRADVERIFY_PROFILE", "thorough"))
        own = config.of_layer("numpy_lstm", selected=["exact"])
        assert (own.profile, own.ignored) == (PROFILES["thorough"], {"kinks": "old"})
        assert own.remarks == ("kinks ignored: old",)

    def test_an_ignored_check_is_not_required_and_its_reason_is_told(self, right, tmp_path):
        """The layer is verified by the others; a check that is only not selected is required."""
        file = tmp_path / "specs" / "half.py"
        asked = tuple(name for name in NAMES if name != "exact")
        job = Job(str(file), content_hash(file), "right", PROFILES["quick"], asked, 0,
                  ignored=(("exact", "old"),), remarks=("exact ignored: old",))  # fmt: skip
        result = run_job(job)
        (exact,) = (c for c in result.checks if c.check == "exact")
        assert (exact.status, exact.reason, exact.ignored) == ("skipped", "ignored: old", True)
        assert (result.verdict, result.remarks) == (Verdict.VERIFIED, ("exact ignored: old",))
        plain = verify_layer(right, PROFILES["quick"], asked, 0)
        assert plain.verdict is Verdict.INCOMPLETE

    def test_to_ignore_every_source_of_gradients_is_not_green(self, right):
        """A layer whose gradients were compared with nothing is not verified."""
        sources = ("symbolic", "finite_difference", "exact", "descent")
        asked = tuple(name for name in NAMES if name not in sources)
        result = verify_layer(
            right, PROFILES["quick"], asked, 0, ignored=dict.fromkeys(sources, "-")
        )
        assert result.verdict is Verdict.INCOMPLETE

    def test_a_source_that_cannot_be_asked_compares_nothing(self, right):
        """Nor is a layer whose only other sources of gradients are unavailable."""
        spec = Spec("bare", **dict(right.spec.tensors))
        ignored = dict.fromkeys(("finite_difference", "exact", "descent"), "-")
        asked = tuple(name for name in NAMES if name not in ignored)
        layer = Layer(spec, right.function)
        assert verify_layer(layer, PROFILES["quick"], NAMES, 0).verdict is Verdict.VERIFIED
        result = verify_layer(layer, PROFILES["quick"], asked, 0, ignored=ignored)
        assert result.verdict is Verdict.INCOMPLETE


SETTINGS = """
[tool.gradverify]
specs = ["specs"]
profile = "tiny"
seed = 3

[tool.gradverify.profiles.tiny]
covering = 14
drawn = 0
sampled = 6
dtypes = ["float64"]

[[tool.gradverify.overrides]]
layer = "ri*"
ignore = ["exact"]
reason = "a reason"
"""


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, "-m", "gradverify", *command], check=False, capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


class TestCommandLine:
    def test_settings_reach_the_verdict(self, here):
        """The project's profile, seed and override count, and the reason is in the report."""
        here(SETTINGS)
        done = run("verify", "--layer", "right", "--format", "text,json:r.json")
        assert done.returncode == 0, done.stderr
        assert "profile tiny, seed 3" in done.stdout
        assert "* right: exact ignored: a reason" in done.stdout
        assert "skipped:" not in done.stdout
        with open("r.json") as file:
            report = json.load(file)
        assert (report["profile"], report["seed"]) == ("tiny", 3)
        assert report["layers"][0]["coverage"]["factors"]["dtype"] == {"float64": 14}

    def test_the_environment_and_options_go_before_the_file(self, here, capsys):
        """GRADVERIFY_SEED counts, the option --profile counts more than all, checks are made."""
        here(SETTINGS)
        asked = "verify --layer right --profile quick --select exact"
        done = run(*asked.split(), GRADVERIFY_SEED="9", GRADVERIFY_PROFILE="thorough")
        assert "profile quick, seed 9" in done.stdout
        assert "ignored" not in done.stdout
        assert done.returncode == 1  # it is not verified by one check alone

    @pytest.mark.parametrize(
        ("table", "command", "told"),
        [
            ('specs = ["specs"]\nprofile = "quik"', "verify", "pyproject.toml: [tool.gradverify] profile: there is no profile 'quik'; did you mean 'quick'?"),
            ("", "verify specs --profile tini", "--profile: there is no profile 'tini'; known are quick"),
            ('specs = ["specs"]\n[[tool.gradverify.overrides]]\nlayer = "rigth"\nprofile = "quick"\nreason = "r"', "verify", "pyproject.toml: [[tool.gradverify.overrides]] no. 1 layer = 'rigth' matches no layer; did you mean 'right'?"),
            ('[[tool.gradverify.overrides]]\nlayer = "right"\nignore = ["exakt"]\nreason = "r"', "audit specs", "no. 1 ignore: there is no check 'exakt'; did you mean 'exact'?"),
            ('[tool.gradverify.profiles.x]\ndtypes = ["f"]', "config", "[tool.gradverify.profiles.x] dtypes: there is no dtype 'f'"),
            ('modules = ["nowhere"]', "list", "pyproject.toml: [tool.gradverify] modules: there is no module nowhere in "),
        ],
    )  # fmt: skip
    def test_a_mistake_is_wrong_usage(self, here, capsys, table, command, told):
        """Nothing is judged, and the message says where the mistake stands and what is near."""
        here(f"[tool.gradverify]\n{table}\n")
        assert main(command.split()) == 2
        assert told in capsys.readouterr().err

    def test_config_shows_each_value_with_its_origin(self, here, capsys, monkeypatch):
        """A table with a column for each, in which nothing that counts is missing."""
        here(SETTINGS)
        monkeypatch.setenv("GRADVERIFY_TIMEOUT", "20")
        assert main(["config", "-j", "2"]) == 0
        file, _, *lines = capsys.readouterr().out.splitlines()
        assert file.endswith("pyproject.toml")
        at = lines[0].index("value"), lines[0].index("from")
        rows = {
            line[: at[0]].strip(): (line[at[0] : at[1]].strip(), line[at[1] :]) for line in lines
        }
        assert rows["seed"] == ("3", "pyproject.toml")
        assert rows["timeout"] == ("20 s", "GRADVERIFY_TIMEOUT")
        assert rows["jobs"] == ("2", "-j")
        assert rows["modules"] == ("none", "default")
        assert rows["profiles.tiny.covering"] == ("14", "pyproject.toml")
        assert rows["profiles.tiny.seconds"] == ("no budget", "default")
        assert rows["overrides.1"] == ("ri*: exact ignored (a reason)", "pyproject.toml")
        assert rows["gate.record"] == ("gradverify-layers.txt", "default")
        assert all(len(line) <= 100 for line in lines)

    def test_config_is_data_as_well(self, here, capsys):
        """The same as JSON, for programs."""
        here(SETTINGS)
        assert main(["config", "--format", "json", "--seed", "4"]) == 0
        settings = json.loads(capsys.readouterr().out)["settings"]
        assert settings["seed"] == {"value": 4, "from": "--seed"}
        assert settings["profiles.tiny.dtypes"] == {"value": ["float64"], "from": "pyproject.toml"}
        assert settings["overrides.1"]["value"]["ignore"] == ["exact"]


def test_a_module_is_verified_replayed_and_audited(here, tmp_path):
    """Layers of a module with relative imports: every command finds them, replay lines work."""
    here('[tool.gradverify]\nmodules = ["lib.layers"]\n')
    package = tmp_path / "src" / "lib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "spec.py").write_text(LAYERS.partition("@")[0])
    (package / "layers.py").write_text("from .spec import half\n\n\n@" + LAYERS.partition("@")[2])
    listed = run("list")
    assert "src/lib/layers.py" in listed.stdout, listed.stderr
    done = run("verify", "--layer", "wrong", "--profile", "quick", "--select", "symbolic")
    assert done.returncode == 1
    assert "1 layer: 1 failed; 1 error" in done.stdout, done.stdout + done.stderr
    (line,) = (x for x in done.stdout.splitlines() if x.startswith("  replay "))
    _, _, *replay = shlex.split(line)
    again = run(*replay)
    assert (again.returncode, "FAILED wrong · symbolic · w" in again.stdout) == (1, True)
    audited = run("audit", "src/lib/layers.py::right", "--profile", "quick", "--kind", "sign")
    assert audited.returncode == 0, audited.stderr
