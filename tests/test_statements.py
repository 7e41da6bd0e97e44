"""What a definition is lowered to: the statements, their loops, shapes and origins, literally."""

import re

import pytest

from gradverify import Constant, Input, Output, Param, Spec
from gradverify.errors import SpecError
from gradverify.loading import catalog
from gradverify.notation.schedule import Block, components, schedule
from gradverify.notation.tree import text

GIVEN = {"x": Input("N C"), "w": Param("C"), "y": Output("N C")}


def program(definition, *, ranges=None, **changed):
    return Spec("s", definition=definition, ranges=ranges, **(GIVEN | changed)).program


def lowered(found):
    """Return one line a statement, `target[...] += [index<size](body)`."""
    lines = []
    for s in found.statements:
        left = f"{s.target}[{','.join(text(e) for e in s.subscripts)}]"
        loops = " ".join(f"{i}<{text(n)}" for i, n in s.loops)
        arrow = "+=" if s.kind == "sum" else f"{s.kind}="
        lines.append(f"{left} {arrow} [{loops}] {text(s.body)}" + " guarded" * s.guarded)
    return lines


def sizes(shapes):
    return {name: " ".join(text(n) for n in shape) for name, shape in shapes.items()}


def test_batch_norm():
    """Each equation is one statement, and a mean is a sum of terms divided by the size."""
    found = catalog("batch_norm").program
    assert lowered(found) == [
        "mu[c] += [c<C n<N] x[n,c]/N",
        "var[c] += [c<C n<N] (x[n,c] - mu[c])**2/N",
        "sigma[c] += [c<C] sqrt(var[c] + eps)",
        "xhat[n,c] += [n<N c<C] (x[n,c] - mu[c])/sigma[c]",
        "y[n,c] += [n<N c<C] gamma[c]*xhat[n,c] + beta[c]",
    ]
    assert sizes(found.shapes) == {
        "x": "N C", "gamma": "C", "beta": "C", "y": "N C",
        "mu": "C", "var": "C", "sigma": "C", "xhat": "N C",
    }  # fmt: skip


def test_group_norm_writes_to_an_affine_left_side():
    """A left side of groups times members keeps its subscript, and gives the tensor its size."""
    found = catalog("group_norm").program
    assert lowered(found)[3] == (
        "xhat[n,g*K + k,h,w] += [n<N g<G k<K h<H w<W] (x[n,g*K + k,h,w] - mu[n,g])/sigma[n,g]"
    )
    assert sizes(found.shapes)["xhat"] == "N G*K H W"


def test_each_linear_term_is_a_statement():
    """A sum of reductions becomes statements that add up, each over its own loops."""
    found = program(
        "y = 2*sum[n,c](x[n,c]) - mean[n](x[n,0]) + sum[c](w[c])/N - w[0]", y=Output("")
    )
    assert lowered(found) == [
        "y[] += [n<N c<C] 2*x[n,c]",
        "y[] += [n1<N] -(x[n1,0]/N)",
        "y[] += [c1<C] 1/N*w[c1]",
        "y[] += [] -w[0]",
    ]


def test_means_nested_in_each_other_are_one_statement():
    """Sums and means directly inside one another share their loops; only a mean divides."""
    found = program("y = mean[n](sum[c](x[n,c]**2))", y=Output(""))
    assert lowered(found) == ["y[] += [n<N c<C] x[n,c]**2/N"]
    found = program("y = mean[n](mean[c](x[n,c]))", y=Output(""))
    assert lowered(found) == ["y[] += [n<N c<C] x[n,c]/C/N"]


def test_a_bound_index_has_a_name_of_its_own():
    """A reduction over an index that stands on the left side is over another index."""
    found = program("y[n,c] = x[n,c] + sum[n](x[n,c]*sum[c](x[n,c]))")
    assert lowered(found) == [
        "sum1[n1] += [n1<N c1<C] x[n1,c1]",
        "y[n,c] += [n<N c<C n1<N] x[n1,c]*sum1[n1]",
        "y[n,c] += [n<N c<C] x[n,c]",
    ]


def test_a_bound_index_is_not_called_like_a_tensor():
    """A second index n is never named n1 where a tensor has that name."""
    found = program("y[n] = x[n,0] + sum[n](x[n,0]*n1)", n1=Param(""), y=Output("N"))
    assert lowered(found) == [
        "y[n] += [n<N n2<N] x[n2,0]*n1",
        "y[n] += [n<N] x[n,0]",
    ]


def test_inner_reductions_are_hoisted_from_the_inside():
    """A reduction under a function or a product is a tensor over the indices it depends on."""
    found = program("y[n,c] = x[n,c]*sum[k](x[n,k]*sum[j](x[j,k]))")
    assert lowered(found) == [
        "sum2[k] += [k<C j<N] x[j,k]",
        "sum1[n] += [n<N k<C] x[n,k]*sum2[k]",
        "y[n,c] += [n<N c<C] x[n,c]*sum1[n]",
    ]


def test_a_hoisted_name_is_not_one_of_the_specs():
    """A tensor or constant called sum1 keeps its name."""
    found = program("y[n,c] = x[n,c]*exp(sum[k](sum1*x[n,k]))", sum1=Constant(2.0))
    assert lowered(found) == [
        "sum2[n] += [n<N k<C] sum1*x[n,k]",
        "y[n,c] += [n<N c<C] x[n,c]*exp(sum2[n])",
    ]


def test_the_same_reduction_twice_is_one_tensor():
    """Reductions that differ by the letter of their index only are computed once."""
    found = program("y[n,c] = x[n,c]/sqrt(sum[k](x[n,k]**2) + sum[j](x[n,j]**2))")
    assert lowered(found) == [
        "sum1[n] += [n<N k<C] x[n,k]**2",
        "y[n,c] += [n<N c<C] x[n,c]/sqrt(sum1[n] + sum1[n])",
    ]


def test_the_same_reduction_over_another_range_is_another_tensor():
    """The range belongs to a reduction: over half of the axis it is not the same."""
    found = program(
        "y[n] = exp(sum[k](x[n,k]))*exp(sum[j](x[n,j]))",
        x=Input("N 2*C"), y=Output("N"), ranges={"k": "C", "j": "2*C"},
    )  # fmt: skip
    assert [line.split()[0] for line in lowered(found)] == ["sum1[n]", "sum2[n]", "y[n]"]


def test_logsumexp_is_shifted_by_its_maximum():
    """logsumexp is written by max, sum, exp and log, so that it never overflows."""
    found = program("y[n] = logsumexp[c](x[n,c])", y=Output("N"))
    assert lowered(found) == [
        "max1[n] max= [n<N c<C] x[n,c]",
        "sum1[n] += [n<N c1<C] exp(x[n,c1] - stop_gradient(max1[n]))",
        "y[n] += [n<N] stop_gradient(max1[n]) + log(sum1[n])",
    ]


def test_min_is_a_negated_max():
    """One primitive serves both ends: min[i](a) is -max[i](-a)."""
    found = program("y[n] = min[c](x[n,c])", y=Output("N"))
    assert lowered(found) == ["max1[n] max= [n<N c<C] -x[n,c]", "y[n] += [n<N] -max1[n]"]


def test_var_is_the_mean_of_squared_deviations():
    """var is expanded into two means, of which the inner one is a tensor of its own."""
    found = program("y[c] = var[n](x[n,c])", y=Output("C"))
    assert lowered(found) == [
        "mean1[c] += [c<C n1<N] x[n1,c]/N",
        "y[c] += [c<C n<N] (x[n,c] - mean1[c])**2/N",
    ]


def test_a_product_is_a_statement_of_its_own_kind():
    """A product of several indices is one statement, and one inside an expression is hoisted."""
    found = program("y[n] = prod[m,c](x[m,c]) - w[n]*w[n]\nz[n] = prod[c](x[n,c])", y=Output("N"),
                    z=Output("N"), w=Param("N"))  # fmt: skip
    assert lowered(found) == [
        "prod1[] prod= [m<N c<C] x[m,c]",
        "y[n] += [n<N] prod1 - w[n]*w[n]",
        "z[n] prod= [n<N c<C] x[n,c]",
    ]


def test_a_bound_is_a_choice_of_what_changes_nothing():
    """A bounded reduction is one over the whole range, of 0, 1 or -inf where the bound fails."""
    found = program("""
        s[n,c] = sum[j<=c](x[n,j])
        p[n,c] = prod[j!=c,m>n](x[m,j])
        y[n,c] = s[n,c]*p[n,c] + min[j<c+1](x[n,j])
    """)
    assert lowered(found) == [
        "s[n,c] += [n<N c<C j<C] where(j <= c, x[n,j], 0)",
        "p[n,c] prod= [n<N c<C j<C m<N] where(j != c and m > n, x[m,j], 1)",
        "max1[n,c] max= [n<N c<C j<C] where(j < c + 1, -x[n,j], -inf)",
        "y[n,c] += [n<N c<C] s[n,c]*p[n,c] - max1[n,c]",
    ]


def test_the_shift_of_a_bounded_logsumexp_is_one_tensor():
    """Nothing flows back through the maximum, so that it needs no guarded copy of its own."""
    found = program("y[n,c] = logsumexp[j<=c](x[n,j])")
    assert [line.split()[0] for line in lowered(found)] == ["max1[n,c]", "sum1[n,c]", "y[n,c]"]


def test_a_bound_may_read_integers():
    """A row may be as long as an integer input says."""
    found = program("y[n] = sum[c<k[n]](x[n,c])", y=Output("N"),
                    k=Input("N", dtype=int, range="0..C"))  # fmt: skip
    assert lowered(found) == ["y[n] += [n<N c<C] where(c < k[n], x[n,c], 0)"]


def test_indices_that_a_bound_compares_have_one_range():
    """Where the range of an index shows nowhere else, it is that of the index it is compared to."""
    found = program("s[n,i] = sum[j<=i](x[n,j])\ny[n,c] = s[n,c]")
    assert sizes(found.shapes)["s"] == "N C"
    longer = program("s[n,i] = sum[j<=i](x[n,j])\ny[n,c] = s[n,c+2]", ranges={"i": "C+2", "c": "C"})
    assert sizes(longer.shapes)["s"] == "N C + 2"


def test_a_maximum_alone_needs_no_tensor_of_its_own():
    """An equation that is a maximum becomes one max statement."""
    found = program("y[n] = max[c](x[n,c])", y=Output("N"))
    assert lowered(found) == ["y[n] max= [n<N c<C] x[n,c]"]


def test_what_only_a_branch_reads_is_guarded():
    """A reduction inside a branch of a `where` is guarded, one in the condition is not."""
    found = program(
        "y[n] = where(sum[c](x[n,c]) > 0, sqrt(sum[c](x[n,c])), max[c](x[n,c]))", y=Output("N")
    )
    assert lowered(found) == [
        "sum1[n] += [n<N c<C] x[n,c]",
        "sum2[n] += [n<N c1<C] x[n,c1] guarded",
        "max1[n] max= [n<N c2<C] x[n,c2] guarded",
        "y[n] += [n<N] where(sum1[n] > 0, sqrt(sum2[n]), max1[n])",
    ]


def test_a_recurrence_starts_before_its_range():
    """Values at index -1 and before come first in the tensor; `origins` says how many."""
    found = program("h[-2,c] = 0\nh[-1,c] = w[c]\nh[t,c] = h[t-1,c]*h[t-2,c] + x[t,c]\n"
                    "y[t,c] = h[t,c]")  # fmt: skip
    assert lowered(found) == [
        "h[0,c] += [c<C] 0",
        "h[1,c] += [c<C] w[c]",
        "h[t + 2,c] += [t<N c<C] h[t + 1,c]*h[t,c] + x[t,c]",
        "y[t,c] += [t<N c<C] h[t + 2,c]",
    ]
    assert dict(found.origins) == {"h": (2, 0)}
    assert sizes(found.shapes)["h"] == "N + 2 C"


def test_an_output_that_is_a_recurrence_is_cut_from_its_path():
    """An output holds its own range; the path with the initial value is a tensor beside it."""
    found = program("y[-1,c] = w[c]\ny[t,c] = 0.5*y[t-1,c] + x[t,c]")
    assert lowered(found) == [
        "y_path[0,c] += [c<C] w[c]",
        "y_path[t + 1,c] += [t<N c<C] 0.5*y_path[t,c] + x[t,c]",
        "y[y_0,y_1] += [y_0<N y_1<C] y_path[y_0 + 1,y_1]",
    ]
    assert dict(found.origins) == {"y_path": (1, 0)}
    assert sizes(found.shapes)["y"] == "N C"
    assert sizes(found.shapes)["y_path"] == "N + 1 C"


def test_a_path_is_not_called_like_a_tensor():
    """A parameter called y_path stays what it is."""
    found = program("y[-1,c] = y_path[c]\ny[t,c] = 0.5*y[t-1,c] + x[t,c]", y_path=Param("C"))
    assert dict(found.origins) == {"y_path_": (1, 0)}
    assert sizes(found.shapes)["y_path"] == "C"


def test_an_initial_value_takes_its_range_from_the_recurrence():
    """`h[-1,k] = 0` reads nothing: how far k runs shows in the other equation of h."""
    found = program("h[-1,k] = 0\nh[t,k] = tanh(h[t-1,k] + x[t,k])\ny[t,k] = h[t,k]")
    assert lowered(found)[0] == "h[0,k] += [k<C] 0"


def test_a_final_value_takes_its_range_from_the_recurrence():
    """The same for a recurrence that runs backwards from `h[N,k]`."""
    found = program(
        "h[N,k] = 0\nh[t,k] = tanh(h[t+1,k] + x[t,k])\ny[t,k] = h[t,k]", ranges={"t": "N"}
    )
    assert lowered(found)[0] == "h[N,k] += [k<C] 0"
    assert sizes(found.shapes)["h"] == "N + 1 C"


def test_a_recurrence_over_nothing_has_no_range():
    """An initial value is no range: a recurrence that reads nothing else has to declare one."""
    written = "h[-1,c] = w[c]\nh[t,c] = h[t-1,c]\ny[c] = h[N-1,c]"
    with pytest.raises(SpecError, match="the range of index t does not show"):
        program(written, y=Output("C"))
    found = program(written, y=Output("C"), ranges={"t": "N"})
    assert sizes(found.shapes)["h"] == "N + 1 C"


@pytest.mark.parametrize(
    ("definition", "shape"),
    [
        ("s[k] = 2*k\ny[n,c] = s[c]*x[n,c]", "C"),
        ("s[k,m] = k*m\ny[n,c] = s[c,n]*x[n,c]", "C N"),
        ("s[k] = 2*k\nr[k] = s[k] + 1\ny[n,c] = r[c]*x[n,c]", "C"),
        ("s[k] = 2*k\ny[n,c] = s[c]*x[n,c] + sum[j](s[j])*s[0]", "C"),
        ("s[n,k] = sum[j](x[n,(k+j)%C])\ny[n,c] = x[n,c]/s[n,c]", "N C"),
        ("s[-1] = 0\ns[t] = s[t-1] + 1\ny[n,c] = s[n] + s[n-1]", "N + 1"),
    ],
)
def test_a_shape_that_no_left_side_shows_follows_from_the_uses(definition, shape):
    """An index of a tensor that only its uses size runs over what they read of that axis."""
    found = program(definition, ranges={"j": "C"} if "%" in definition else None)
    assert sizes(found.shapes)["s"] == shape


@pytest.mark.parametrize(
    "definition",
    [
        "s[k] = 2*k\ny[n,c] = s[c]*x[n,c] + s[n]",  # over N and over C
        "s[k] = 2*k\ny[n,c] = s[c] + s[c+C]",  # and beyond, so that C is not all of it
        "s[k] = 2*k\ny[n,c] = x[n,c]*s[0]",
    ],
)
def test_uses_that_differ_show_no_range(definition):
    """Where uses read an axis over two ranges, or in slices, its range has to be declared."""
    with pytest.raises(SpecError, match="the range of index k does not show"):
        program(definition)


def test_a_concatenation_has_disjoint_left_sides():
    """Two equations of one tensor give it the larger extent."""
    found = program("h[n,k] = x[n,k]\nh[n,C+k] = w[k]\ny[n,k] = h[n,k]*h[n,C+k]", ranges={"k": "C"})
    assert lowered(found)[:2] == ["h[n,k] += [n<N k<C] x[n,k]", "h[n,C + k] += [n<N k<C] w[k]"]
    assert sizes(found.shapes)["h"] == "N 2*C"


def test_plus_equals_scatters():
    """A tensor that `+=` adds to is scattered: elements may be written many times or never."""
    found = program(
        "y[ids[n],c] += x[n,c]", ids=Input("N", dtype=int, range="0..V-1"), v=Param("V"),
        y=Output("V C"),
    )  # fmt: skip
    assert lowered(found) == ["y[ids[n],c] += [n<N c<C] x[n,c]"]
    assert found.scattered == {"y"}


def test_a_statement_knows_what_it_reads_and_where_it_was_written():
    """Sources are the tensors in body and subscripts, and `at` is the line of the equation."""
    found = program("h[c] = w[c]\ny[n,c] = x[n,ids[n]]*h[c]",
                    ids=Input("N", dtype=int, range="0..C-1"))  # fmt: skip
    assert [s.sources for s in found.statements] == [{"w"}, {"x", "ids", "h"}]
    assert [s.at for s in found.statements] == [(1, 0), (2, 0)]


# -- coverage

COVERS = [
    ("y[n,c] = x[n,c]", {}),
    ("y[c,n] = x[n,c]", {"y": Output("C N")}),
    ("y[N-1-n,c] = x[n,c]", {"ranges": {"n": "N"}}),
    ("y[2*n] = x[n,0]\ny[2*n+1] = x[n,0]", {"y": Output("2*N")}),
    ("y[n*C+c] = x[n,c]", {"y": Output("N*C")}),
    ("y[0] = 1\ny[1+n] = x[n,0]", {"y": Output("N+1")}),
    ("y[n+c] += x[n,c]", {"y": Output("N+C")}),
]


@pytest.mark.parametrize(("definition", "changed"), COVERS, ids=[d for d, _ in COVERS])
def test_equations_that_cover_a_tensor_once_are_accepted(definition, changed):
    """Transposed, flipped, interleaved, flattened, shifted left sides all cover their tensor."""
    assert program(definition, **changed).statements


LEAVES = [
    ("y[2*n] = x[n,0]", {"y": Output("2*N")}, "no equation defines y[1] at N=2, C=3"),
    ("y[n] = x[n,0]", {"y": Output("2*N"), "ranges": {"n": "N"}}, "no equation defines y[2] at"),
    ("y[n,n] = x[n,0]", {"y": Output("N N")}, "no equation defines y[0,1] at"),
    ("y[n+c] = x[n,c]", {"y": Output("N+C-1")}, "more than one equation defines y[1] at"),
    ("y[0] = 1\ny[n] = x[n,0]", {"y": Output("N")}, "more than one equation defines y[0] at"),
    ("h[-2,c] = w[c]\nh[n,c] = h[n-1,c] + x[n,c]\ny[n,c] = h[n,c]", {},
     "no equation defines h[-1,0] at N=2, C=3"),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "changed", "said"), LEAVES, ids=[d for d, _, _ in LEAVES])
def test_a_gap_or_an_overlap_is_shown_by_an_element(definition, changed, said):
    """What no equation or more than one defines is named, with sizes at which that is so."""
    with pytest.raises(SpecError, match=re.escape(said)):
        program(definition, **changed)


def test_a_window_must_stay_inside():
    """A pooling window may not leave its tensor, whatever stride and size are."""
    declared = {
        "x": Input("H"), "K": Constant(2, 3), "S": Constant(1, 2), "y": Output("(H-K)//S+1"),
        "where": ["H >= K"],
    }  # fmt: skip
    right = "y[p] = max[r](x[S*p+r])"
    assert Spec("pool", definition=right, ranges={"r": "K"}, **declared).program
    with pytest.raises(SpecError, match=re.escape("subscript S*p + r of x reaches")):
        Spec("pool", definition=right, ranges={"r": "K+1"}, **declared)


def test_what_lies_outside_may_be_declared():
    """With `outside=` a subscript may leave its tensor on both sides."""
    written = "y[n,c] = x[n-1,c] + x[n+1,c+2]"
    with pytest.raises(SpecError, match=re.escape("declare what lies beyond, x=Input(")):
        program(written)
    assert program(written, x=Input("N C", outside=0)).outside == {"x": 0}


# -- the order of statements


class Step:
    def __init__(self, target, *sources):
        self.target, self.sources = target, frozenset(sources)

    def __repr__(self):
        return self.target


def test_schedule_sorts_by_what_is_read():
    """Everything is written before it is read, and else the order is as given."""
    a, b, c, d = Step("a", "c"), Step("b"), Step("c", "b"), Step("d")
    assert schedule([a, b, c, d]) == (b, c, a, d)


def test_schedule_puts_a_cycle_into_a_block():
    """Tensors that read each other run together, after what they start from."""
    start, h, c, y = Step("h", "x"), Step("h", "c"), Step("c", "h"), Step("y", "c")
    assert schedule([y, h, start, c]) == (start, Block((h, c)), y)


def test_components_come_after_what_they_read():
    """The strongly connected components are in topological order (Tarjan 1972)."""
    reads = {"a": ["b"], "b": ["c"], "c": ["b", "d"], "d": []}
    assert components(reads, reads) == [{"d"}, {"b", "c"}, {"a"}]
