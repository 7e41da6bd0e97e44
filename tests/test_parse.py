"""What the equation language accepts, and what it says about everything else."""

import re
import string
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradverify import Constant, Input, Output, Param, Spec
from gradverify.errors import SpecError
from gradverify.notation import parse
from gradverify.notation.parse import (
    FUNCTIONS,
    REDUCTIONS,
    Source,
    parse_equations,
    parse_expression,
)
from gradverify.notation.tree import Call, Name, Number, Read, Reduce, text


def expression(written):
    return parse_expression(Source(written))


def equations(definition):
    return parse_equations(Source(definition))


def spec(definition, **changed):
    declared = {
        "x": Input("N C"),
        "w": Param("C"),
        "ids": Input("N", dtype=int, range="0..C-1"),
        "eps": Constant(1e-5),
        "y": Output("N C"),
    }
    return Spec("s", definition=definition, **(declared | changed))


def message_of(definition, **changed):
    with pytest.raises(SpecError) as caught:
        spec(definition, **changed)
    assert type(caught.value) is SpecError
    return str(caught.value)


# -- what is accepted


@pytest.mark.parametrize(
    ("written", "bracketed"),
    [
        ("a + b*c", "a + (b*c)"),
        ("a - b - c", "(a - b) - c"),
        ("a - (b - c)", "a - (b - c)"),
        ("a/b/c", "(a/b)/c"),
        ("a//b % c", "(a//b) % c"),
        ("-a**2", "-(a**2)"),
        ("(-a)**2", "(-a)**2"),
        ("-a*b", "(-a)*b"),
        ("2**-1", "2**(-1)"),
        ("a**b**c", "a**(b**c)"),
        ("a + b < c*d", "(a + b) < (c*d)"),
        ("a < b and c < d or e < f", "((a < b) and (c < d)) or (e < f)"),
        ("not a < b and c < d", "(not (a < b)) and (c < d)"),
        ("a or b or c", "(a or b) or c"),
        ("+a", "a"),
    ],
)
def test_precedence_is_pythons(written, bracketed):
    """An expression without brackets means what it means in Python."""
    assert expression(written) == expression(bracketed)


def test_a_chained_comparison_compares_neighbours():
    """`0 <= i < N` is both comparisons at once, as in mathematics."""
    assert text(expression("0 <= i < N != k")) == "0 <= i and i < N and N != k"


@pytest.mark.parametrize(
    "written",
    [
        "a - (b - c)", "a/(b*c)", "(a + b)*c", "-(a + b)", "(a**b)**c", "a**-b", "(a < b) < c",
        "not (a and b)", "where(a < b, x[i], -x[i - 1])", "sum[i,j](x[i,j]*w[j,2*i + 1])",
        "sum[j <= i](x[j])", "prod[j != i + 1,k](x[j,k])", "max[j < 2*i - 1,k >= j](x[j,k])",
        "max(a, min(b, 0.5))", "a//b//c", "a//(b//c)", "a % (b % c)", "1e-05*a", "2.5*(-a)",
    ],
)  # fmt: skip
def test_the_text_of_an_expression_reads_back(written):
    """Printing an expression keeps its meaning: every bracket that matters is there."""
    tree = expression(written)
    assert expression(text(tree)) == tree
    assert text(expression(text(tree))) == text(tree)


def test_a_bound_is_written_closely():
    """A bound is printed as it is usually written, inside the brackets of its reduction."""
    assert text(expression("sum[ j <= i+1 , k ](x[j, k])")) == "sum[j<=i+1,k](x[j,k])"


def test_an_unknown_function_is_told_all_that_are_known():
    """The message lists every function and every reduction of the language."""
    message = message_of("y[n,c] = lgama(x[n,c])")
    assert "did you mean lgamma?" in message
    said = message.replace(":", " ").split()
    assert set(FUNCTIONS) <= set(said)
    assert {f"{r}[i]" for r in REDUCTIONS} <= set(said)


def test_a_reduction_may_run_over_several_indices():
    """`sum[i,j](...)` is one reduction over both indices."""
    tree = expression("sum[i,j](x[i,j])")
    assert tree == Reduce("sum", ("i", "j"), Read("x", (Name("i"), Name("j"))))


def test_max_is_a_function_or_a_reduction():
    """`max(a, b)` takes two values, `max[i](a)` runs over an index."""
    assert expression("max(a, b)") == Call("max", (Name("a"), Name("b")))
    assert expression("max[i](a)") == Reduce("max", ("i",), Name("a"))


def test_numbers_are_exact():
    """Integers stay integers and a decimal is the float64 nearest to it, no more and no less."""
    assert expression("12345678901234567890") == Number(12345678901234567890)
    (numerator, denominator) = (0.1).as_integer_ratio()
    tree = expression("0.1")
    assert (tree.value.numerator, tree.value.denominator) == (numerator, denominator)
    assert expression("-3") == Number(-3)


def test_a_scalar_stands_bare_on_either_side():
    """A tensor without dimensions has no brackets, on the left and on the right."""
    (equation,) = equations("loss = a*b")
    assert (equation.target, equation.subscripts) == ("loss", ())
    program = spec("y = scale*sum[n,c](x[n,c])", scale=Param(""), y=Output("")).program
    assert [text(s.body) for s in program.statements] == ["x[n,c]", "scale*sum1"]


def test_plus_equals_adds():
    """`+=` marks an equation that adds to its target wherever the left side points."""
    first, second = equations("y[n] = a[n]\ny[ids[n]] += b[n]")
    assert (first.adds, second.adds) == (False, True)
    assert text(second.subscripts[0]) == "ids[n]"


def test_a_line_goes_on_inside_brackets():
    """An open bracket continues the equation on the next lines, however they are indented."""
    long = """
        y[n,c] = (x[n,c]
              + w[c]
          )

        # a remark of the author
    """
    assert [text(s.body) for s in spec(long).program.statements] == ["x[n,c] + w[c]"]


def test_a_line_that_is_indented_further_goes_on():
    """Without brackets an equation goes on in lines that are indented; a caret finds them."""
    long = """
        y[n,c] = x[n,c]
                 + w[c]

        """
    assert [text(s.body) for s in spec(long).program.statements] == ["x[n,c] + w[c]"]
    assert message_of(long.replace("w[c]", "v[c]")).splitlines()[-2:] == ["    + v[c]", "      ^"]


def test_the_first_equation_may_stand_right_after_the_quotes():
    """The others have a margin of their own then; where none of them is an equation, they go on."""
    flush = """h[n,c] = 2*x[n,c]
               y[n,c] = h[n,c]
                        + w[c]"""
    found = [text(s.body) for s in spec(flush).program.statements]
    assert found == ["2*x[n,c]", "h[n,c] + w[c]"]
    goes_on = """y[n,c] = x[n,c]
        + where(w[c] == 0, w[c], 2*w[c])"""
    assert len(spec(goes_on).program.statements) == 1


def test_equations_may_stand_in_any_order():
    """A tensor may be used above the equation that defines it."""
    program = spec("y[n,c] = h[n,c]\nh[n,c] = 2*x[n,c]").program
    assert [s.target for s in program.statements] == ["y", "h"]


def test_names_may_be_greek():
    """Letters of the papers are names too, and a caret counts characters, not bytes."""
    assert spec("σ[n,c] = x[n,c]\ny[n,c] = σ[n,c]").program.shapes["σ"]
    shown = message_of("y[n,c] = x[n,c]*σμ[c]")
    assert shown.splitlines()[-2:] == ["    y[n,c] = x[n,c]*σμ[c]", "                    ^"]
    shown = message_of("σ[n,c] = x[n,c]\ny[n,c] = σ[n,c] + σ[n,c]*foo[c]")
    assert shown.splitlines()[-1] == " " * 4 + " " * len("y[n,c] = σ[n,c] + σ[n,c]*") + "^"


# -- what is refused: (definition, key words)

WRONG = [
    # what is not in the language
    ("y[n,c] = sofplus(x[n,c])", "is not a function of the language; did you mean softplus"),
    ("y[n,c] = frobnicate(x[n,c])", "known functions: exp log"),
    ("y[n,c] = sum[0<=k<=c](x[n,k])", "a bound begins with its index and compares once"),
    ("y[n,c] = sum[c>=2*k](x[n,k])", "index k is neither on the left side nor reduced"),
    ("y[n,c] = sum[2*k<=c](x[n,k])", "a bound begins with its index and compares once"),
    ("y[n,c] = mean[k<=c](x[n,k])", "mean takes no bound, since how many terms it has"),
    ("y[n,c] = var[k<=c](x[n,k])", "var takes no bound, since how many terms it has"),
    ("y[n,c] = sum[k<=w[c]](x[n,k])", "w is used as a subscript or bound but does not hold integers"),
    ("y[n,c] = sum[k<=exp(c)](x[n,k])", "a subscript or bound is an integer"),
    ("y[n,c] = sum[k<=c,k](x[n,k])", "a reduction names an index twice"),
    ("y[n,c] = sum[k<=m](x[n,k])", "index m is neither on the left side nor reduced"),
    ("y[n,c] = " + "var[k](" * 5 + "x[n,k]" + ")" * 5, "var is nested in 4 others"),
    ("y[n,c] = polygamma(c, x[n,c])", "the order of polygamma is a whole number from 0"),
    ("y[n,c] = polygamma(1.5, x[n,c])", "the order of polygamma is a whole number from 0"),
    ("y[n,c] = polygamma(-1, x[n,c])", "the order of polygamma is a whole number from 0"),
    ("y[n,c] = x[n,c] @ w[c]", "`@` has no meaning here: write sum[i]"),
    ("y[n,c] = x[n,:]", "a slice has no meaning here: name an index"),
    ("y[n,c] = x[n,0:2]", "a slice has no meaning here"),
    ("y[n,c] = x[n,c] if x[n,c] > 0 else 0", "write where(condition, a, b)"),
    ("y[n,c] = x.T[n,c]", "a dot has no meaning here"),
    ("y[n,c] = x.sum()", "a dot has no meaning here"),
    ("y[n,c] = (lambda: 1)()", "only numbers, names, subscripts"),
    ("y[n,c] = lambda a: a", "only numbers, names, subscripts"),
    ("y[n,c] = 'text'", "only real numbers can stand here"),
    ("y[n,c] = f'{x}'", "only numbers, names, subscripts"),
    ("y[n,c] = True", "only real numbers can stand here"),
    ("y[n,c] = 2j", "only real numbers can stand here"),
    ("y[n,c] = (a := 3)", "only numbers, names, subscripts"),
    ("y[n,c] = x[*n]", "a slice has no meaning here"),
    ("y[n,c] = max(*x)", "max takes 2 argument(s), not 1: for the max over an index write max[n]"),
    ("y[n,c] = exp(x=x[n,c])", "arguments have no names here"),
    ("y[n,c] = sum[n](x[n,c], y=1)", "arguments have no names here"),
    ("y[n,c] = sum[n](x[n,c], 1)", "sum[...] takes one argument, not 2"),
    ("y[n,c] = exp(x[n,c], 1)", "exp takes 1 argument(s), not 2"),
    ("y[n,c] = x[n][c]", "write all subscripts in one pair of brackets"),
    ("y[n,c] = x[n,c] & w[c]", "write and, or, not"),
    ("y[n,c] = ~x[n,c]", "write and, or, not"),
    ("y[n,c] = x[n,c]^2", "`^` has no meaning here: a power is written with **, x[n]**2"),
    ("y = linear(x)", "linear is not a function of the language; to call a spec, declare it: "
                      "linear=Part(spec)"),
    ("y[n,c] = x[n,c] << 2", "only numbers, names, subscripts"),
    ("y[n,c] = x[n,c] in w[c]", "compare with < <= > >= == !="),
    ("y[n,c] = x[n,c] is w[c]", "compare with < <= > >= == !="),
    ("y[n,c] = [x[n,c]]", "only numbers, names, subscripts"),
    ("y[n,c] = x[n,c], 1", "a comma can stand between subscripts and arguments only"),
    ("y[n,c] = sum(x[n,c])", "sum needs the indices it runs over: sum[n](...)"),
    ("y[n,c] = cumsum[n](x[n,c])", "cumsum is not a reduction; did you mean sum?"),
    ("y[n,c] = exp[n](x[n,c])", "exp is not a reduction (known: sum mean var prod max min logsumexp)"),
    ("y[n,c] = sum[2](x[n,c])", "a reduction runs over indices: single small letters"),
    ("y[n,c] = sum[n,n](x[n,c])", "a reduction names an index twice"),
    ("y[n,c] = __import__('os').system('true')", "a dot has no meaning here"),
    ("y[n,c] = eval(x[n,c])", "eval is not a function of the language"),
    # what is no equation
    ("", "the definition is empty: write at least one equation"),
    ("# nothing but a remark", "the definition is empty"),
    ("y[n,c] = (x[n,c]", "cannot be read ('(' was never closed)"),
    ("y[n,c] = x[n,c])", "cannot be read (unmatched ')')"),
    ("y[n,c] =", "cannot be read"),
    ("y[n,c] = x[n,c]  # so far\n    + w[c]", "cannot be read (unexpected indent)"),
    ("y[n,c]", "this is not an equation: write `name[indices] = expression`"),
    ("import os", "this is not an equation"),
    ("y[n,c] -= x[n,c]", "this is not an equation"),
    ("y[n,c] = z = x[n,c]", "this is not an equation"),
    ("y[n,c], z = x[n,c], 1", "the left side must be one tensor, such as y[n,c]"),
    ("2*y[n,c] = x[n,c]", "cannot be read"),
    ("y[n,c] = x[n,c]\n\0", "cannot be read"),
    # what is too large
    ("y[n,c] = " + "1" * 41, "a number has more than 40 digits"),
    ("y[n,c] = 1e999", "too large for a float64; for infinity write inf"),
    ("y[n,c] = 9**9**9", "write an exponent that is a number as one number"),
    ("y[n,c] = (2*3)**2", "write a power of numbers as one number"),
    ("y[n,c] = x[n,c]**100", "an exponent beyond 64 is refused"),
    ("y[n,c] = " + "(" * 61 + "1" + ")" * 61, "nested deeper than 60 brackets"),
    ("y[n,c] = " + "-" * 300 + "1", "nested deeper than 60 brackets"),
    ("y[n,c] = " + "+".join(["1"] * 300), "an expression of more than 240 levels"),
    ("y[n,c] = x[n,c]\n" * 1500, "longer than 20,000 characters"),
    ("y[n,c] = x[n,c]/0", "this divides by zero"),
    # names
    ("y[n,c] = v[n,c]", "v is declared nowhere and no equation defines it; known are C, N"),
    ("y[n,c] = x[n,c] + xx[n,c]", "xx is declared nowhere and no equation defines it; did you"),
    ("y[n,c] = x[n,c] + M", "M is declared nowhere"),
    ("y[n,c] = x[n]", "x has 2 dimension(s), not 1"),
    ("y[n,c] = x", "x has 2 dimension(s): write its subscripts, x[n,c]"),
    ("y[n] = x[n,0]", "y has 2 dimension(s) but 1 subscript(s) here"),
    ("y = x[n,c]", "y has 2 dimension(s) but 0 subscript(s) here: write them, y[n,c] = ..."),
    ("y[n,c] = N[n]", "N is one number: write it without subscripts"),
    ("y[n,c] = eps[n]", "eps is one number: write it without subscripts"),
    ("y[n,c] = x[n,k]", "index k is neither on the left side nor reduced: write e.g. sum[k]"),
    ("y[n,c] = sum[x](w[c])", "x is a tensor or constant of this spec and cannot be an index"),
    ("N[n] = x[n,0]", "N is a dimension or constant; a tensor needs a name of its own"),
    ("x[n,c] = w[c]", "x is given to the layer; an equation cannot define it"),
    ("h[n,c] = x[n,c]", "no equation of the definition defines the output y"),
    # ranges and subscripts
    ("y[n,c] = x[c,n]", 'index c runs over C in y[n,c] and over N in x[c,n]; if both are meant, '
                        'declare the smaller: ranges={"c": "N"}'),
    ("y[n,c] = x[n,c] + sum[k](exp(2*k))",
     'the range of index k does not show: no tensor has a plain [k] of known size here; '
     'declare it, ranges={"k": "N"}'),
    ("s[c] = 2*c\ny[n,c] = s[0]*x[n,c]", 'the range of index c does not show: no tensor has a plain '
                                         '[c] of known size here; declare it, ranges={"c": "C"}'),
    ("y[n,c] = x[n,c+1]", "subscript c + 1 of x reaches 3 at C=3, but there x has C = 3 element(s) "
                          "(counted from 0); declare what lies beyond, x=Input(..., outside=0)"),
    ("y[n,c] = x[n,c-1]", "subscript c - 1 of x reaches -1 at C=3"),
    ("h[n,c] = x[n,c]\ny[n,c] = h[n,c+1]",
     "subscript c + 1 of h reaches 3 at C=3, but there h has C = 3 element(s) (counted from 0); "
     "an equation must stay inside its tensor"),
    ("y[n,c+1] = x[n,c]", "subscript c + 1 of y reaches 3"),
    ("y[n,c] = x[n,c//(C-C)]", "divides by zero at"),
    ("y[n,0] = x[n,0]", "no equation defines y[0,1] at N=2, C=3"),
    ("y[n,c] = x[n,c]\ny[n,c] = w[c]", "more than one equation defines y[0,0] at"),
    ("y[n,c] = w[x[n,c]]", "x is used as a subscript or bound but does not hold integers: declare it"),
    ("y[n,c] = x[n,sum[k](ids[k])]", "a reduction cannot stand in a subscript"),
    ("y[n,c] = x[n,exp(c)]", "a subscript or bound is an integer: use indices, sizes and + - * // %"),
    ("y[n,c] = x[n,0.5]", "a subscript is an integer"),
    ("y[n,c] = x[n,eps]", "eps stands in a subscript but is not an integer constant"),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "said"), WRONG, ids=[d[:40] or "empty" for d, _ in WRONG])
def test_a_wrong_definition_is_explained(definition, said):
    """Whatever is wrong with a definition is a SpecError that says what, and what to write."""
    assert said in message_of(definition)


@pytest.mark.parametrize(
    ("definition", "pointed_at"),
    [
        ("y[n,c] = 2*sofplus(x[n,c])", "sofplus"),
        ("y[n,c] = x[n,c] + (x[n,c] @ w[c])", "x[n,c] @"),
        ("y[n,c] = x[n,:]", "n,:"),
        ("y[n,c] = 1 + (x[n,c] if x[n,c] > 0 else 0)", "x[n,c] if"),
        ("y[n,c] = x[n,c]*f'{x}'", "f'"),
        ("y[n,c] = w[c]**100", "w[c]**"),
        ("y[n,c] = 1 + 12345678901234567890123456789012345678901", "123"),
        ("y[n,c] = x[n,c])", ")"),
        ("y[n,c] = w[c]*v[n,c]", "v[n,c]"),
        ("y[n,c] = w[c] + x[n]", "x[n]"),
        ("y[n,c] = w[c]*x[n,k]", "k"),
        ("y[n,c] = w[c] + x[n,c+1]", "x[n,c+1]"),
        ("y[n,c] = w[c] + x[c,n]", "x[c,n]"),
        ("y[n,c] = x[n,c] + sum[k](exp(2*k))", "sum"),
        ("y[n,c] = w[x[n,c]]", "x[n,c]]"),
        ("y[n,c] = x[n,c]/0", "0"),
        ("y[n,0] = x[n,0]", "y"),
    ],
)
def test_the_caret_stands_under_the_place(definition, pointed_at):
    """A message shows the line as it was written, with a caret under what is wrong."""
    # The place is found after the equals sign, so that an earlier same text does not hide it.
    start = 0 if pointed_at == "y" else definition.index("=") + 1
    column = len(definition) - 1 if pointed_at == ")" else definition.index(pointed_at, start)
    *_, line, mark = message_of(definition).splitlines()
    assert line == "    " + definition
    assert mark == "    " + " " * column + "^"


def test_the_caret_finds_its_line_in_an_indented_definition():
    """A definition indented in a triple-quoted text is shown without its indentation."""
    *_, line, mark = message_of("""
        h[n,c] = 2*x[n,c]
        y[n,c] = h[n,c] + z[n,c]
    """).splitlines()
    assert line == "    y[n,c] = h[n,c] + z[n,c]"
    assert mark == "                      ^"


def test_ranges_solves_the_conflict_that_its_message_names():
    """Following the remedy of a range conflict makes the definition right."""
    declared = {"x": Input("N H"), "y": Output("N 2*H")}
    written = "y[n,h] = x[n,h]\ny[n,H+h] = -x[n,h]"
    with pytest.raises(SpecError, match=re.escape('ranges={"h": "H"}')):
        Spec("s", definition=written, **declared)
    assert Spec("s", definition=written, ranges={"h": "H"}, **declared).program


WRONG_SPECS = [
    ({"where": "N >= 2"}, 'where is a list of texts: write where=["N >= 2"]'),
    ({"where": [2]}, 'a constraint is a text such as "N >= 2", not 2'),
    ({"where": ["N >= 2", "N < 2"]}, "no sizes satisfy 'N >= 2' and 'N < 2'"),
    ({"where": ["N + C"]}, "the constraint 'N + C' compares nothing"),
    ({"where": ["M > 2"]}, "the constraint 'M > 2' names M, which is in no shape of an input"),
    ({"where": ["N / 2 == 1"]}, "divides with /: sizes are integers, write //"),
    ({"where": ["N > 0.5"]}, "may use integers, dimensions and + - * // % only"),
    ({"where": ["N >"]}, "the constraint cannot be read"),
    ({"y": Output("N M")}, "the shape of y names M, which is in no shape of an input or parameter"),
    ({"x": Input("N c")}, "the size 'c' in shape 'N c' names 'c'; a dimension is capitals"),
    ({"x": Input("N C+")}, "the shape of x cannot be read"),
    ({"x": Input("N, C")}, 'x: blanks separate the sizes of a shape: write "N C"'),
    ({"x": Input("N C/2")}, "the size 'C/2' divides with /"),
    ({"x": Input("N exp(C)")}, "the size 'exp(C)' may use integers, dimensions"),
    ({"x": Input("N 0")}, "the size '0' in shape 'N 0' is less than 1"),
    ({"x": Input(("N", "C"))}, 'a shape is a text of dimensions such as "N C"'),
    ({"P": Constant(0.5), "y": Output("N P")}, "the constant P stands in a shape, so its values"),
    ({"ranges": {"k": "M"}}, "ranges['k'] names M"),
    ({"ranges": {"kk": "N"}}, "an index is a single small letter"),
    ({"ranges": {"x": "N"}}, "an index is a single small letter that names no tensor"),
    ({"N": Input("C")}, "N is both a tensor and a dimension: one name means one thing"),
    (
        {"w": Spec("u", x=Input("N"), y=Output("N"))},
        "w=Spec('u'): a spec that is called is a part: w=Part(...)",
    ),
    ({"w": 3}, "w=3: declare it with Input, Param, Buffer, Output, Constant or Part"),
    ({"_w": Param("C")}, "_w: a name starting with _ is reserved"),
    ({"lambda": Param("C")}, "lambda has a meaning in Python"),
    ({"pi": Constant(3)}, "pi has a value of its own"),
    ({"x": Input("N C", range="0.1")}, "the range '0.1' is not of the form \"low..high\""),
    ({"x": Input("N C", range="0..M")}, "the range of x names M"),
]


@pytest.mark.parametrize(("changed", "said"), WRONG_SPECS, ids=[s[:40] for _, s in WRONG_SPECS])
def test_a_wrong_declaration_is_explained(changed, said):
    """What is wrong in a shape, constraint, range or name is a SpecError that names it."""
    shown = message_of("y[n,c] = 1" if "y" not in changed else None, **changed)
    assert shown.startswith("spec 's': ")
    assert said in shown


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (
            lambda: Param("C", init="one"),
            "Param(init='one'): write one of normal, zeros, ones or a",
        ),
        (lambda: Input("N", dtype=str), "write dtype=int or dtype=float"),
        (lambda: Constant(), "Constant() needs at least one value"),
        (lambda: Constant("1"), "Constant('1'): a constant is a finite number"),
    ],
)
def test_a_wrong_option_of_a_declaration_is_explained(declare, said):
    """An option that cannot be meant is refused where it is written."""
    with pytest.raises(SpecError, match=re.escape(said)):
        declare()


# -- anything at all

# fmt: off
TOKENS = [
    "y[n,c]", "x[n,c]", "w[c]", "ids[n]", "eps", "N", "C", "n", "c", "k", "y", "x", "w", "h[n]",
    "h[n-1]", "h[-1]", "h[n+1]", "+", "-", "*", "/", "//", "%", "**", "(", ")", "[", "]", ",", "=",
    "+=", "<", "<=", "==", "and", "or", "not", "in", "is", "if", "else", "lambda", ":", ".", "@",
    "'", '"', "\\", ";", "#", ":=", "~", "{", "}", "where(", "exp(", "log(", "sqrt(", "max(",
    "sum[k](", "max[n](", "mean[c](", "logsumexp[c](", "min[c](", "stop_gradient(", "0", "1", "-1",
    "2", "9", "100", "0.5", "1e400", "inf", "pi", "__import__", "import", "'os'", "os.system",
    "eval", "open(", "\n", "\ny[n,c] = ",
]
# fmt: on
ANYTHING = st.one_of(
    st.text(),
    st.text(string.printable),
    st.lists(st.sampled_from(TOKENS), max_size=25).map(" ".join),
    st.lists(st.sampled_from(TOKENS), max_size=15).map(lambda soup: "y[n,c] = " + " ".join(soup)),
)


def never(*args, **kwargs):
    raise AssertionError("a definition was executed")


@settings(derandomize=True, deadline=None, database=None, max_examples=300)
@given(ANYTHING)
def test_any_text_is_a_definition_or_a_spec_error(written):
    """No text, however odd, raises anything but SpecError or gets a part of it executed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.system", never)
        patch.setattr("builtins.eval", never)
        patch.setattr("builtins.exec", never)
        patch.setattr("builtins.open", never)
        with suppress(SpecError):
            spec(written)


@settings(derandomize=True, deadline=None, database=None, max_examples=100)
@given(ANYTHING)
def test_any_text_is_a_shape_or_a_spec_error(written):
    """The same holds for shapes, constraints, ranges of values and ranges of indices."""
    for changed in (
        {"x": Input(written)},
        {"where": [written]},
        {"x": Input("N C", range=written)},
        {"x": Input("N C", range=f"0..{written}")},
    ):
        with suppress(SpecError):
            spec(None, **changed)


def test_nothing_is_imported_by_a_definition(tmp_path):
    """A definition that would write a file, were it executed, is refused and writes none."""
    target = tmp_path / "written"
    for written in (
        f"y[n,c] = __import__('pathlib').Path({str(target)!r}).touch()",
        f"__import__('pathlib').Path({str(target)!r}).touch()",
        f"y[n,__import__('pathlib').Path({str(target)!r}).touch()] = x[n,c]",
        f"y[n,c] = [p for p in [open({str(target)!r}, 'w')]]",
    ):
        message_of(written)
    assert not target.exists()


def test_the_limits_are_far_from_what_people_write():
    """The bounds that keep hostile text cheap leave room for a long definition."""
    assert parse.MAX_LENGTH >= 10_000
    many = "".join(f"h{k}[n,c] = x[n,c] + {k}\n" for k in range(300)) + "y[n,c] = h299[n,c]"
    assert len(spec(many).program.statements) == 301
