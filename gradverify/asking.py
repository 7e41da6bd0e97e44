"""Which checks are asked in which cases, until enough is known of a layer."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from gradverify.cases import Case, is_large, least_elements
from gradverify.checks import CHECKS
from gradverify.checks.contract import TURNS
from gradverify.checks.observation import Observation
from gradverify.config import Profile
from gradverify.ground import DRAWN_AT_ONCE, Ground, rows_of
from gradverify.layer import Layer
from gradverify.result import Status
from gradverify.spec import Spec
from gradverify.tally import (
    LARGE_POWERED,
    MIN_POWERED,
    MORE,
    Seen,
    applicable,
    least_powered,
)
from gradverify.trial import Known, Trial, make_oracle

# Checks that see the digits that a gradient loses, where it is compared with anything.
DIFFERENCES = ("finite_difference", "exact", "kinks", "descent")
# In so many cases do checks that call the layer many times look at one that is known to be wrong,
# as many as they are judged by: of what is derived they can only say the same, where it shows. In
# twice as many where those do not tell, and of what is offered beside a pullback that may be wrong.
FEW = MIN_POWERED
# In so many more does `contract` call it again: its questions have their turns then.
AGAIN = TURNS
# A layer whose tensors cannot be small is judged at so many rows of the covering set at most; at
# no more than are needed to tell right from wrong, of which one at least is of each precision.
LARGE_ROWS = 2 * LARGE_POWERED


def of_size(profile: Profile, spec: Spec) -> Profile:
    """Return a profile with fewer cases for a layer of fixed sizes that are large."""
    if not is_large(spec):
        return profile
    covering = min(LARGE_ROWS, LARGE_ROWS if profile.covering is None else profile.covering)
    return replace(profile, covering=covering, drawn=0, sampled=min(1, profile.sampled))


def size_told(spec: Spec, asked: int) -> list[str]:
    """Return the remark that a layer of large fixed sizes was judged at a few cases."""
    if not is_large(spec):
        return []
    return [
        f"judged at {asked} cases, what takes many calls at the plainest only, since a tensor has "
        f"{least_elements(spec):,} elements or more; with dimensions in place of fixed sizes, "
        "small ones are tried, in many more cases"
    ]


@dataclass
class Asking:
    """What checks say of a layer, asked case by case.

    `seen` is what each has said, of those that apply, `asked` the cases so far, `wrong` whether
    they show an error, `since` in how many cases that was known, and `left` why cases are left,
    where any are.
    """

    layer: Layer
    ground: Ground
    profile: Profile
    names: Sequence[str]
    began: float
    known: Known = field(default_factory=Known)
    seen: dict[str, Seen] = field(init=False)
    asked: list[Case] = field(default_factory=list)
    wrong: bool = False
    since: int = 0
    left: str = field(init=False)

    def __post_init__(self) -> None:
        profile, layer = self.profile, self.layer
        self.left = f"the {profile.seconds or 0:g} s of profile {profile.name} were spent"
        asked = [n for n in self.names if applicable(CHECKS[n], layer) is None]
        self.seen = {n: Seen(least_powered(layer.spec)) for n in asked}

    def everywhere(self, *, until_error: bool = False) -> None:
        """Ask in all cases of the ground: in drawn ones not where the covering set shows an error,
        nor where there is no time for them."""
        for case in self.ground.rows:
            if not self.wrong and self._large_told:
                return
            self.one(case, self.seen)
            if until_error and self.wrong:
                return
        drawn = iter(self.ground.drawn or ())
        while not (self.wrong or self._late or self._large_told):
            if (another := next(drawn, None)) is None:
                return
            self.one(another, self.seen)
        if self.wrong:
            self.left = "the others show what is wrong"

    def beyond(self, seed: int, sizes: Mapping[str, int] | None) -> None:
        """Ask the checks that the rows of a profile of few do not suffice for at the rows after
        them, until they do, there is an error or no time: at MORE times as many in all."""
        rows = self.profile.covering
        if rows is None or is_large(self.layer.spec) or not self._lacking:
            return
        for case in rows_of(self.ground, self.layer.spec, seed, sizes, rows, MORE * rows):
            if self.wrong or self._late or not self._lacking:
                return
            self.one(case, self._lacking)

    def one(self, case: Case, names: Iterable[str]) -> None:
        """Ask some checks in a case, those that have been asked often enough left out."""
        oracle = make_oracle(self.layer.spec)
        few = self.wrong and oracle is not None
        trial = Trial(self.layer, case, oracle, self.ground.zero, known=self.known,
                      brief=few and self.since >= AGAIN)  # fmt: skip
        self.since += self.wrong
        self.asked.append(case)
        said: list[tuple[str, Observation]] = []
        for name in names:
            check, so_far = CHECKS[name], self.seen[name]
            if not check.asks(trial):
                continue
            # Cases on kinks and ties are few, and what is asked of them costs little.
            special = trial.kinked or trial.tied
            shows = any(_is_error(o) for asked, o in said if asked != "contract")
            if self._enough(name, case, shows, few=few) and not special:
                continue
            if check.loses(trial):
                so_far.lost += 1
                continue
            start = time.perf_counter()
            so_far.cases += 1
            so_far.shown |= shows
            said += [(name, observation) for observation in check.observe(trial)]
            so_far.seconds += time.perf_counter() - start
            trial.release(name)
        inaccurate = {o.tensor for name, o in said
                      if name == "symbolic" and o.question == "inaccurate"}  # fmt: skip
        for name, observation in said:
            failed = observation.outcome is Status.FAILED
            if failed and observation.tensor in inaccurate and _sees_digits(name, observation):
                continue
            self.seen[name].note(case, observation)
            self.wrong |= _is_error(observation)

    def _enough(self, name: str, case: Case, shows: bool, *, few: bool) -> bool:
        """Whether a check has been asked often enough to leave out a case, in which something is
        wrong by the definition or not; a check of a layer that is known to be wrong in `few`."""
        check, so_far = CHECKS[name], self.seen[name]
        if not few:
            return so_far.enough(check, self._due(name), case, self.profile.sampled)
        differences = name in DIFFERENCES
        wanted = differences and shows and not so_far.shown
        fewest = differences and so_far.told(self._due(name))
        return so_far.enough(check, (), case, FEW if fewest else 2 * FEW) and not wanted

    def unasked(self) -> list[Case]:
        """Return cases of the ground that no check was asked in, one part of those drawn."""
        asked = {*self.asked}
        some = (*self.ground.rows, *islice(self.ground.drawn or (), DRAWN_AT_ONCE))
        return [case for case in some if case not in asked]

    def _due(self, name: str) -> set[str]:
        """Return the tensors that a check has to tell of."""
        return {*CHECKS[name].tensors(self.layer.spec)} - self.ground.zero

    @property
    def _lacking(self) -> list[str]:
        """The checks that have told of something, and of something not often enough."""
        return [name for name, so_far in self.seen.items()
                if any(so_far.powered.values()) and not so_far.told(self._due(name))]  # fmt: skip

    @property
    def _late(self) -> bool:
        seconds = self.profile.seconds
        return seconds is not None and time.perf_counter() > self.began + seconds

    @property
    def _large_told(self) -> bool:
        """Whether all is told that is asked of a layer of large fixed sizes."""
        return (
            is_large(self.layer.spec)
            and {case.dtype for case in self.asked} == {*self.ground.dtypes}
            and all(s.told(self._due(n)) or len(s.declined) == s.cases > 0
                    for n, s in self.seen.items())
        )  # fmt: skip


def _is_error(observation: Observation) -> bool:
    return observation.outcome is Status.FAILED and observation.severity == "error"


def _sees_digits(name: str, observation: Observation) -> bool:
    """Whether a failure is one of the digits that are lost where `symbolic` has told so."""
    return name in DIFFERENCES or observation.question == "precision"
