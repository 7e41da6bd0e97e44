"""A spec's declarations: what they mean, which sizes they allow, and how layers register."""

import re

import pytest

from gradverify import (
    Buffer,
    Constant,
    Input,
    Layer,
    Output,
    Param,
    Spec,
    Verdict,
    verify,
)
from gradverify.errors import SpecError
from gradverify.loading import catalog
from gradverify.notation.tree import text
from gradverify.spec import REGISTERED


@pytest.fixture
def registry():
    """Yield the registry, and put it back as it was."""
    before = dict(REGISTERED)
    yield REGISTERED
    REGISTERED.clear()
    REGISTERED.update(before)


def norm(**changed):
    declared = {
        "x": Input("N C"),
        "mask": Input("N C", values=(0, 1), differentiable=False),
        "ids": Input("N", dtype=int, range="0..C-1"),
        "gamma": Param("C", init="ones"),
        "eps": Constant(1e-5, 1e-2),
        "G": Constant(1, 2),
        "y": Output("N C"),
        "z": Output(""),
    }
    return Spec("norm", **(declared | changed))


# -- declarations


def test_tensors_are_listed_by_kind_in_declared_order():
    """Inputs, parameters and outputs are what was declared so, in that order."""
    spec = norm()
    assert spec.inputs == ("x", "mask", "ids")
    assert spec.params == ("gamma",)
    assert spec.outputs == ("y", "z")
    assert spec.given == ("x", "mask", "ids", "gamma")
    assert spec.dims == ("N", "C")


def test_only_what_varies_continuously_has_a_gradient():
    """Integers and inputs declared `differentiable=False` need no gradient."""
    assert norm().differentiable == ("x", "gamma")


def test_constants_are_tried_in_every_combination():
    """Every value of every constant is met with every value of the others."""
    assert norm().constant_choices == (
        {"eps": 1e-5, "G": 1}, {"eps": 1e-5, "G": 2}, {"eps": 1e-2, "G": 1}, {"eps": 1e-2, "G": 2},
    )  # fmt: skip
    assert norm(eps=Constant(0.5), G=Constant(3)).constant_choices == ({"eps": 0.5, "G": 3},)


def test_a_constant_of_integers_can_stand_in_shapes():
    """A capital that is declared as a constant is that constant and no dimension."""
    spec = norm(x=Input("N G*C"))
    assert spec.dims == ("N", "C")
    assert spec.shape("x", {"N": 2, "C": 3, "G": 5}) == (2, 15)
    assert Constant(1, 2).is_integer
    assert not Constant(1, 2.0).is_integer


def test_shapes_can_be_shown():
    """A shape is shown as it was declared, for messages and reports."""
    spec = catalog("conv2d")
    assert spec.shape_text("x") == "(N, C, H, W)"
    assert spec.shape_text("b") == "(K)"
    assert spec.shape_text("y").startswith("(N, K, (H + 2*P - D*(R - 1) - 1)//S + 1, ")
    assert norm().shape_text("z") == "()"


def test_a_spec_knows_where_it_was_written():
    """The location is file and line of the call, and constraints are kept as trees."""
    spec = norm(where=["N >= 2"])
    assert re.fullmatch(r".*test_spec\.py:\d+", spec.location)
    assert [text(c) for c in spec.where] == ["N >= 2"]


def test_a_spec_without_a_definition_has_no_program():
    """A definition may be left out; everything else is declared and checked all the same."""
    assert norm().program is None
    assert norm().definition is None


def test_init_is_kept():
    """`init=` says where learning starts: a name or a number."""
    tensors = norm(a=Param("C", init=0.25), b=Param("C")).tensors
    assert [tensors[k].init for k in ("gamma", "a", "b")] == ["ones", 0.25, "normal"]


# -- buffers


def running(**changed):
    declared = {
        "x": Input("N C"),
        "state": Buffer("C", update="new_state", init="ones", range="0.1..3"),
        "kept": Buffer("N"),
        "y": Output("N C"),
        "new_state": Output("C"),
        "definition": """
            y[n,c]       = x[n,c]*state[c] + kept[n]
            new_state[c] = state[c] + 0.1*sum[n](x[n,c])
        """,
    }
    return Spec("running", **(declared | changed))


def test_a_buffer_is_given_and_needs_no_gradient():
    """The layer is called with a buffer and returns its next value, of which no cotangent comes."""
    spec = running()
    assert spec.given == ("x", "state", "kept")
    assert spec.inputs == spec.differentiable == ("x",)
    assert spec.params == ()
    assert spec.outputs == ("y", "new_state")
    assert spec.updates == {"state": "new_state"}
    assert spec.differentiable_outputs == ("y",)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"state": Buffer("C", update="next")},
         "state: update='next' names no output: declare its next value, next=Output('C')"),
        ({"state": Buffer("C", update="x")}, "state: update='x' names no output"),
        ({"state": Buffer("N C", update="new_state")},
         "state has shape (N, C) but its next value new_state has (C): declare "
         "new_state=Output('N C')"),
        ({"kept": Buffer("C", update="new_state")},
         "new_state is the next value of both state and kept: declare an output for each"),
        ({"y": Constant(1), "kept": Input("N"), "definition": None},
         "every output is the next value of a buffer: declare one that the layer computes"),
    ],
)  # fmt: skip
def test_a_wrong_update_is_explained(changed, said):
    """A buffer's next value is an output of its shape, and that of one buffer only."""
    with pytest.raises(SpecError, match=re.escape(said)):
        running(**changed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"update": 3}, 'Buffer(update=3): name an output, such as update="new_mean"'),
        ({"init": "one"}, "Buffer(init='one'): write one of normal, zeros, ones or a number"),
        ({"range": 2}, "Buffer(range=2): a range is a text such as"),
    ],
)
def test_a_wrong_option_of_a_buffer_is_explained(options, said):
    """What is wrong in the declaration itself says what to write."""
    with pytest.raises(SpecError, match=re.escape(said)):
        Buffer("C", **options)


def running_layer(step=0.1, *, change=False, cotangents=1):
    """Return a layer of the spec with buffers, right by default."""

    def layer(x, state, kept):
        new = state + step * x.sum(axis=0)
        y = x * state + kept[:, None]
        if change and state.flags.writeable:
            state[...] = new

        def pullback(*given):
            assert len(given) == cotangents
            return {"x": given[0] * state}

        return (y, new), pullback

    return layer


@pytest.mark.parametrize("defined", [True, False])
def test_a_layer_with_buffers_is_verified(defined):
    """With and without a definition, the pullback gets the cotangent of y and no other."""
    spec = running() if defined else running(definition=None)
    report = verify(Layer(spec, running_layer()))
    assert report.ok, report.findings
    assert report.layers[0].verdict is Verdict.VERIFIED


@pytest.mark.parametrize(
    ("layer", "check", "tensor"),
    [
        (running_layer(0.2), "forward", "new_state"),
        (running_layer(change=True), "contract", "state"),
        (running_layer(cotangents=2), "contract", None),
    ],
    ids=["another update", "changed in place", "a cotangent of the next value"],
)
def test_a_layer_that_gets_its_buffers_wrong_is_failed(layer, check, tensor):
    """The update equation is checked, and a buffer is the caller's: the layer leaves it alone."""
    report = verify(Layer(running(), layer), profile="quick")
    assert (check, tensor) in {(f.check, f.tensor) for f in report.findings}
    assert not report.ok


# -- one name, one meaning


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"N": Input("C")}, "N is both a tensor and a dimension: one name means one thing"),
        ({"C": Output("N")}, "C is both a tensor and a dimension: one name means one thing"),
        ({"definition": "N[c] = 1\ny[n,c] = 1\nz = 1"}, "N is a dimension or constant"),
        ({"definition": "eps = 1\ny[n,c] = 1\nz = 1"}, "eps is a dimension or constant"),
        ({"definition": "y[n,c] = x[n,c]\nz = 1", "n": Param("N")},
         "n is a tensor of this spec: use another letter as index"),
        ({"definition": "y[n,c] = sum[i](x[i,c])\nz = 1", "i": Param("")},
         "i is a tensor or constant of this spec and cannot be an index"),
        ({"definition": "y[n,c] = sum[k](x[n,k])\nz = 1", "k": Constant(2)},
         "k is a tensor or constant of this spec and cannot be an index"),
        ({"definition": "gamma[c] = 1\ny[n,c] = 1\nz = 1"}, "gamma is given to the layer"),
        ({"_x": Input("N")}, "_x: a name starting with _ is reserved"),
    ],
)  # fmt: skip
def test_one_name_means_one_thing(changed, said):
    """A name that is two of dimension, constant, tensor and index is refused, and it says so."""
    with pytest.raises(SpecError, match=re.escape(said)):
        norm(**changed)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"x": "*B *A D"}, "x: the shape '*B *A D' has 2 starred dimensions, so nobody could know "
         "where *B ends: star one"),
        ({"x": "*2*D"}, "x: '*2*D' in shape '*2*D': a star stands before the name of a dimension"),
        ({"x": "*(N+1)"}, "x: '*(N+1)' in shape '*(N+1)': a star stands before the name"),
        ({"x": "* B"}, "x: '*' in shape '* B': a star stands before the name of a dimension"),
        ({"x": "*K D"}, "x: K is a constant, so *K cannot be any number of dimensions"),
        ({"x": "*B|1 D"}, "x: '*B|1' in shape '*B|1 D': a starred dimension cannot be 1 as a "
         "whole: write *B"),
        ({"x": "*B D", "z": "B K"}, "B is starred in the shape of x but not in that of z, and one "
         "name means one thing: write *B in both, alone, or another name"),
        ({"x": "*B D", "z": "2*B"}, "B is starred in the shape of x but not in that of z"),
        ({"x": "*B *B D"}, "x: the shape '*B *B D' has 2 starred dimensions"),
        ({"x": "*B B"}, "B is starred in the shape of x and stands a second time there: "),
        ({"x": "N C", "z": "N|2 C"}, "z: 'N|2' in shape 'N|2 C': a dimension may be its size or 1 "
         "and nothing else: write N|1"),
        ({"x": "1|N C"}, "x: '1|N' in shape '1|N C': a dimension may be its size or 1 and nothing "
         "else: write N|1"),
        ({"x": "N| C"}, "write N|1"),
        ({"x": "1|1 C"}, "write N|1"),
        ({"x": "N|1 C"}, "x: where N|1 is 1, nothing tells N: declare an input or parameter that "
         "has N in its shape and cannot be 1"),
        ({"x": "N C", "y": "N|1 C"}, "y: an output has one shape: write N for N|1"),
    ],
)  # fmt: skip
def test_a_mark_that_cannot_stand_is_explained(declared, said):
    """Stars and |1 in a shape have one meaning; every other use is told what to write."""
    shapes = {"y": "D"} | declared
    tensors = {k: Output(s) if k == "y" else Input(s) for k, s in shapes.items()}
    with pytest.raises(SpecError, match=re.escape(said)):
        Spec("s", K=Constant(2), **tensors)


def test_marks_are_kept_and_shown():
    """A starred dimension is one to the definition; shapes are shown as they were declared."""
    spec = Spec("s", x=Input("N *B C"), g=Param("N|1 C|1"), y=Output("*B"))
    assert (spec.dims, spec.stars, spec.ones) == (("N", "B", "C"), ("B",), {"g": (0, 1)})
    assert [spec.shape_text(k) for k in "xgy"] == ["(N, *B, C)", "(N|1, C|1)", "(*B)"]
    assert spec.shape("x", {"N": 2, "B": 6, "C": 4}) == (2, 6, 4)


def test_a_spec_needs_outputs_and_something_given():
    """Without an output, or without anything given, there is nothing to verify."""
    with pytest.raises(SpecError, match="no output is declared: write"):
        Spec("s", x=Input("N"))
    with pytest.raises(SpecError, match="no input or parameter is declared: write"):
        Spec("s", y=Output("N"))


def test_every_message_names_the_spec():
    """A file may hold many specs: the message says which one is wrong."""
    with pytest.raises(SpecError, match=r"^spec 'norm': "):
        norm(y=Output("M"))


# -- sizes


def test_sizes_follow_the_preference():
    """Sizes are the preferred ones where the constraints allow them, else the nearest."""
    spec = norm(where=["N >= 2"])
    assert next(spec.sizes({}, {"N": 4, "C": 7})) == {"N": 4, "C": 7}
    assert next(spec.sizes({}, {"N": 1, "C": 7})) == {"N": 2, "C": 7}


def test_sizes_keep_every_shape_positive():
    """No tensor, output or input, ever has an axis of less than one element."""
    spec = catalog("conv2d")
    for constants in spec.constant_choices:
        for preferred in (1, 2, 6):
            sizes = next(spec.sizes(constants, dict.fromkeys(spec.dims, preferred)))
            for tensor in spec.tensors:
                assert min(spec.shape(tensor, {**constants, **sizes})) >= 1


def test_sizes_without_constants_meet_every_choice():
    """Asked for nothing in particular, sizes come in a few patterns for every constant."""
    spec = norm(where=["N > G"])
    found = list(spec.sizes())
    assert {(s["eps"], s["G"]) for s in found} == {(e, g) for e in (1e-5, 1e-2) for g in (1, 2)}
    assert all(s["N"] > s["G"] for s in found)
    assert len({(s["N"], s["C"]) for s in found}) >= 4


def test_unsatisfiable_constraints_are_found_at_once():
    """A spec that no sizes satisfy is refused where it is written, with its constraints."""
    with pytest.raises(
        SpecError,
        match=re.escape(
            "no sizes satisfy 'C == 7' and 'C % G == 0' with every size at least 1, whatever"
        ),
    ):
        norm(where=["C == 7", "C % G == 0"], G=Constant(2, 4))  # fmt: skip


def test_one_satisfiable_constant_is_enough():
    """A constant's value that no size goes with is no case; the others are."""
    spec = norm(where=["C == 7", "C % G == 0"], G=Constant(2, 7))
    assert next(spec.sizes({"G": 2, "eps": 1e-5}), None) is None
    assert next(spec.sizes({"G": 7, "eps": 1e-5}))["C"] == 7


# -- values


def test_bounds_are_values_at_the_sizes():
    """A range may depend on sizes, and both of its ends count."""
    spec = norm(x=Input("N C", range="0.1..3"), gamma=Param("C", range="-1..2*C"))
    assert spec.bounds("ids", {"N": 2, "C": 5}) == (0, 4)
    assert spec.bounds("gamma", {"C": 5}) == (-1, 10)
    assert spec.bounds("x", {}) == (0.1, 3)
    assert spec.bounds("mask", {}) is None


@pytest.mark.parametrize("written", ["", "3", "1-3", "0..", "..3", "a..b..c"])
def test_a_range_has_two_ends(written):
    """What is not `low..high` is refused."""
    with pytest.raises(SpecError):
        norm(x=Input("N C", range=written))


def test_a_tensor_starts_within_its_range():
    """A start that the layer is not meant for is refused, with the remedy."""
    said = "gamma starts at 1, outside its range '2..3': write init= a number within"
    with pytest.raises(SpecError, match=re.escape(said)):
        norm(gamma=Param("C", init="ones", range="2..3"))
    assert norm(gamma=Param("C", init=2, range="2..3")).tensors["gamma"].start == 2


# -- registering


def test_register_keeps_the_function_under_its_name(registry):
    """A registered function stays what it was; name, file and dtypes are kept beside it."""
    spec = norm()

    @spec.register
    def plain(x):
        return x

    @spec.register(name="named", dtypes=["float32"])
    def other(x):
        return x

    kept = {
        name: entry for (file, name), entry in registry.items() if file.endswith("test_spec.py")
    }
    assert kept["plain"].function is plain
    assert kept["plain"].dtypes is None
    assert kept["plain"].spec is spec
    assert kept["named"].function is other
    assert kept["named"].dtypes == ("float32",)
    assert plain(3) == 3


def test_register_refuses_two_layers_of_one_name(registry):
    """Two functions of one name in one file are an error that says how to tell them apart."""
    spec = norm()
    spec.register(name="twice")(len)
    with pytest.raises(
        SpecError, match=r"two layers are called 'twice' in .*test_spec\.py: rename"
    ):
        spec.register(name="twice")(max)


def test_register_takes_the_same_function_again(registry):
    """Loading a file twice registers its layers once."""
    spec = norm()
    before = len(registry)

    def again(x):
        return x

    spec.register(again)
    spec.register(again)
    assert len(registry) == before + 1


def test_register_refuses_unknown_dtypes(registry):
    """A dtype that gradverify does not draw is named, with those that it does."""
    with pytest.raises(SpecError, match="dtype 'float8' is not one of float64, float32, float16"):
        norm().register(name="f", dtypes=["float8"])(len)


def test_register_needs_something_to_call(registry):
    """What cannot be called is no layer."""
    with pytest.raises(SpecError, match="3 is not callable"):
        norm().register(3)


def test_a_callable_object_is_registered_under_its_class(registry):
    """An object with `__call__` has no name of its own: its class gives it one."""

    class Layer:
        def __call__(self, x):
            return x

    norm().register(Layer())
    assert any(name == "Layer" for _, name in registry)
