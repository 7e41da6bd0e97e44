"""Layers of large fixed sizes: judged at less cost, with the same findings."""

import numpy as np
import pytest

from gradverify import Input, Layer, Output, Param, Spec, verify
from gradverify.calculus.compile import NOISE
from gradverify.calculus.noise import TABLE, Noise
from gradverify.calculus.products import einsum
from gradverify.cases import is_large, parse_case
from gradverify.cases.tables import normal, signs
from gradverify.checks.memory import MOST_KEPT, content
from gradverify.trial import Trial, make_oracle

WIDE, OUT = 160, 130
DEFINITION = """
    a[n,i] = tanh(sum[d](x[n,d]*w1[i,d]) + b1[i])
    y[n,k] = sum[i](a[n,i]*w2[k,i]) + b2[k]
"""


def spec(definition=DEFINITION):
    return Spec(
        "large", x=Input(f"N {WIDE}"), w1=Param(f"{WIDE} {WIDE}"), b1=Param(f"{WIDE}"),
        w2=Param(f"{OUT} {WIDE}"), b2=Param(f"{OUT}"), y=Output(f"N {OUT}"), definition=definition,
    )  # fmt: skip


LARGE, BARE = spec(), spec(None)


def forward(x, w1, b1, w2, b2):
    a = np.tanh(x @ w1.T + b1)
    return a, a @ w2.T + b2


def right(x, w1, b1, w2, b2):
    a, y = forward(x, w1, b1, w2, b2)

    def pullback(dy):
        da = (dy @ w2) * (1 - a**2)
        return {"x": da @ w1, "w1": da.T @ x, "b1": da.sum(axis=0), "w2": dy.T @ a,
                "b2": dy.sum(axis=0)}  # fmt: skip

    return y, pullback


def changed(**how):
    """Return the right layer with some of its gradients changed."""

    def wrong(x, w1, b1, w2, b2):
        y, pullback = right(x, w1, b1, w2, b2)

        def back(dy):
            found = pullback(dy)
            return found | {k: change(found[k], len(x), dy) for k, change in how.items()}

        return y, back

    return wrong


def one_element(gradient, count, dy):
    gradient[77, 3] *= 1.001
    return gradient


def mutating(x, w1, b1, w2, b2):
    result = right(x, w1, b1, w2, b2)
    w1[5] *= 1.5
    return result


def swapping(x, w1, b1, w2, b2):
    y, pullback = right(x, w1.copy(), b1, w2, b2)
    w1.sort(axis=0)
    return y, pullback


class Stale:
    """Keeps what the last forward had for every pullback."""

    def __call__(self, x, w1, b1, w2, b2):
        y, self.last = right(x, w1, b1, w2, b2)
        return y, lambda dy: self.last(dy)


class Adding:
    """Adds to the gradients of a call whenever its pullback is called."""

    def __call__(self, x, w1, b1, w2, b2):
        y, pullback = right(x, w1, b1, w2, b2)
        total = np.zeros_like(w2)

        def back(dy):
            nonlocal total
            found = pullback(dy)
            total = total + found["w2"]
            return found | {"w2": total.copy()}

        return y, back


def reusing():
    """Return a layer that gives each call the same array for the gradient of w2."""
    kept = {}

    def wrong(x, w1, b1, w2, b2):
        y, pullback = right(x, w1, b1, w2, b2)

        def back(dy):
            found = pullback(dy)
            buffer = kept.setdefault(w2.dtype, np.zeros_like(found["w2"]))
            buffer[...] = found["w2"]
            return found | {"w2": buffer}

        return y, back

    return wrong


WRONG = {
    "one element": (changed(w2=one_element), ("symbolic", "gradient", "w2")),
    "a factor N": (changed(w1=lambda g, n, dy: g * n), ("symbolic", "gradient", "w1")),
    "transposed": (changed(w1=lambda g, n, dy: g.T.copy()), ("symbolic", "gradient", "w1")),
    "the first of a batch": (changed(b2=lambda g, n, dy: dy[0].copy()),
                             ("symbolic", "gradient", "b2")),
    "a sign": (changed(x=lambda g, n, dy: -g), ("symbolic", "gradient", "x")),
    "none": (changed(w2=lambda g, n, dy: None), ("contract", "missing", "w2")),
    "not linear": (changed(b2=lambda g, n, dy: np.clip(g, -1e3, 1e3)), ("contract", "linear", "b2")),
    "a parameter changed": (mutating, ("contract", "mutates", "w1")),
    "a parameter sorted": (swapping, ("contract", "mutates", "w1")),
    "stale": (Stale(), ("contract", "stale", "w1")),
    "adding up": (Adding(), ("contract", "accumulates", "w2")),
    "overwritten": (reusing(), ("contract", "overwritten", "w2")),
}  # fmt: skip


def told(layer, of=LARGE):
    (result,) = verify(Layer(of, layer, dtypes=("float64", "float32")), profile="quick").layers
    return result, {(f.check, f.question, f.tensor) for f in result.errors}


def test_a_gradient_that_the_first_call_alone_lacks_is_told():
    """No later call is compared with what there is not."""
    calls = []

    def late(x, w1, b1, w2, b2):
        y, back = right(x, w1, b1, w2, b2)

        def pullback(dy):
            calls.append(1)
            return back(dy) | ({"b1": None} if len(calls) == 1 else {})

        return y, pullback

    case = "N=3 dtype=float64 layout=C values=ordinary cotangent=signed seed=5"
    (result,) = verify(Layer(LARGE, late), case=case, checks=["contract"]).layers
    assert "b1" in {f.tensor for f in result.errors}


def test_a_right_layer_is_verified():
    """With a definition and without, and the report says at how many cases."""
    assert is_large(LARGE)
    for of, verdict in ((LARGE, "verified"), (BARE, "verified")):
        result, found = told(right, of)
        assert found == set()
        assert result.verdict == verdict
        assert result.remarks[0].startswith(
            "judged at 3 cases, what takes many calls at the plainest only, since a tensor has "
        )
        assert all(c.status in ("passed", "not applicable", "unavailable") for c in result.checks)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_layer_has_its_finding(name):
    """What is wrong is found, and called what it is."""
    wrong, expected = WRONG[name]
    result, found = told(wrong)
    assert result.verdict == "failed"
    assert expected in found


@pytest.mark.parametrize("name", ["one element", "a factor N", "transposed", "a sign"])
def test_without_a_definition_differences_find_it(name):
    """Differences along all tensors at once are asked of each where they are not as promised."""
    wrong, (_, _, tensor) = WRONG[name]
    result, found = told(wrong, BARE)
    assert result.verdict == "failed"
    assert ("finite_difference", "slope", tensor) in found
    assert {t for c, _, t in found if c == "finite_difference"} == {tensor}


def test_an_allowance_of_one_draw_is_that_of_many():
    """One draw measures nearly what the most of 64 is."""
    case = parse_case("N=3 dtype=float64 layout=C values=ordinary cotangent=signed seed=5", LARGE)
    trial = Trial(Layer(LARGE, right), case, make_oracle(LARGE))
    once, many = trial.reference.allowed_gradients, trial.careful.allowed_gradients
    assert once.keys() == many.keys()
    for name, one in once.items():
        assert 0.3 < one.value / many[name].value <= 1.05, name


def test_noise_of_large_arrays_has_the_size_of_that_of_small_ones():
    """The table's numbers are as wide as drawn ones, and the largest of them too."""
    value = np.ones((700, 700))
    assert value.size > TABLE
    noise = Noise(2.0**-20, np.random.default_rng(1)).round(value) - value
    plain = np.random.default_rng(2).standard_normal(value.shape) * 2.0**-20
    assert np.std(noise) == pytest.approx(np.std(plain), rel=0.02)
    assert np.max(np.abs(noise)) == pytest.approx(np.max(np.abs(plain)), rel=0.2)
    turned = Noise(2.0**-20, np.random.default_rng(1)).round(np.asfortranarray(value))
    assert np.std(turned - value) == pytest.approx(np.std(plain), rel=0.02)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ni,nj->ij", [(2, 600), (2, 700)]),  # the result alone is large
        ("ni,nj->ji", [(2, 600), (2, 700)]),
        ("ni,ij->nj", [(2, 600), (600, 700)]),
        ("ij,ij->", [(600, 700), (600, 700)]),
        ("ni,nj,n->ij", [(2, 600), (2, 700), (2,)]),
        ("i,i->i", [(3,), (3,)]),
    ],
)
def test_products_are_those_of_numpy_in_c_order(subscripts, shapes):
    """By products of matrices where anything is large, and without."""
    rng = np.random.default_rng(5)
    factors = [rng.standard_normal(shape) for shape in shapes]
    found, plain = einsum(subscripts, *factors), np.einsum(subscripts, *factors)
    np.testing.assert_allclose(found, plain, rtol=1e-9, atol=1e-9)
    assert found.flags.c_contiguous


def test_only_what_is_read_twice_has_two_roundings():
    """A tensor that two statements read may be computed again for the second, others not."""
    noisy = make_oracle(LARGE).source("f", NOISE)
    assert "dw1_again" not in noisy
    assert "a_again" in noisy


def test_large_arrays_are_filled_without_two_equal_elements():
    """A table is read again and again, each time at another scale."""
    found = normal(np.random.default_rng(3), (TABLE, 3))
    assert np.unique(found).size == found.size
    assert np.std(found) == pytest.approx(1, rel=0.02)
    turned = signs(np.random.default_rng(3), (TABLE, 2))
    assert set(np.unique(turned)) == {-1.0, 1.0}
    assert abs(np.mean(turned)) < 0.01


def test_any_change_of_much_memory_shows():
    """One bit, and rows, columns or elements that change places."""
    array = np.random.default_rng(4).standard_normal((600, 600))
    assert array.nbytes > MOST_KEPT
    before = content(array)
    for change in (lambda a: a[::-1], lambda a: a.T, lambda a: np.sort(a, axis=0),
                   lambda a: np.roll(a, 1, axis=1)):  # fmt: skip
        assert content(np.ascontiguousarray(change(array))) != before
    array[17, 5] = np.nextafter(array[17, 5], 9)
    assert content(array) != before


def test_changes_that_a_sum_would_not_see_show_as_well():
    """Two elements that change places or signs, and a negated part, are a change in either order."""
    for order in ("C", "F"):
        whole = np.asarray(np.random.default_rng(0).standard_normal((700, 600)), order=order)
        assert whole.nbytes > MOST_KEPT
        flat = whole.reshape(-1, order="A")
        before = content(whole)
        for change in (lambda a: a[[0, 4099]], lambda a: -a[[0, 4099]]):
            kept = flat[[0, 4099]]
            flat[[4099, 0]] = change(flat)
            assert content(whole) != before
            flat[[0, 4099]] = kept
        assert content(whole) == before
        flat[: 2 * 4099] *= -1
        assert content(whole) != before
