"""Numbers that Hypothesis draws; the same in every process for the same seed."""

from functools import lru_cache

# Enough bits to choose among dozens of values nearly evenly.
BITS = 8


@lru_cache(maxsize=64)  # they are the same for all specs with as many choices
def numbers(choices: int, count: int, seed: int) -> list[list[int]]:
    """Return `count` draws by Hypothesis of a number of BITS bits for each choice."""
    import hypothesis
    from hypothesis import strategies as st

    found: list[list[int]] = []

    # Only booleans: into its draws of integers Hypothesis mixes constants from whatever modules
    # happen to be loaded, and the same seed would give other cases in another process.
    bits = st.lists(st.booleans(), min_size=BITS, max_size=BITS)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.tuples(*(bits for _ in range(choices))))
    def collect(drawn: tuple[list[bool], ...]) -> None:
        found.append([sum(bit << k for k, bit in enumerate(part)) for part in drawn])

    collect()
    return found
