"""Specs made of specs: calls of parts are written out, chained, and refused where they are wrong."""

import numpy as np
import pytest
from torch_layers import by_oracle, draw, oracle

from gradverify import Buffer, Constant, Input, Output, Param, Part, Spec, catalog
from gradverify.calculus.point import Point
from gradverify.errors import SpecError
from gradverify.notation.schedule import Block
from gradverify.notation.tree import text

LINEAR, RELU, NORM = catalog("linear"), catalog("relu"), catalog("layer_norm")
RUNNING = catalog("batch_norm_running")
CELL, DROPOUT, EMBEDDING = catalog("lstm_cell"), catalog("dropout"), catalog("embedding")
CONV, POOL, ATTENTION = catalog("conv2d"), catalog("max_pool2d"), catalog("attention")


def spec_of(definition, **declared):
    """Return a spec of one linear layer after another, changed as given."""
    usual = {
        "x": Input("N D"),
        "fc": Part(LINEAR, K="H"),
        "out": Part(LINEAR),
        "y": Output("N K"),
    }
    kept = {k: v for k, v in (usual | declared).items() if v is not None}
    return Spec("s", definition=definition, **kept)


def written(spec):
    """Return the equations of a spec as text."""
    return [
        f"{e.target}[{','.join(map(text, e.subscripts))}] = {text(e.body)}" for e in spec.equations
    ]


def message_of(definition, **declared):
    with pytest.raises(SpecError) as caught:
        spec_of(definition, **declared)
    return str(caught.value)


def assert_same(spec, plain, sizes, rename=None):
    """Assert that two specs have the same outputs and gradients, under other names."""
    rename = rename or {}
    point = draw(spec, sizes, np.random.default_rng(0))
    tensors = {rename.get(k, k): v for k, v in point.tensors.items()}
    outputs, pullback = oracle(spec).run(point)
    expected, back = oracle(plain).run(Point(tensors, point.constants, sizes))
    for a, b in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)
    gradients, wanted = pullback(*point.cotangents), back(*point.cotangents)
    assert {rename.get(k, k) for k in gradients} == wanted.keys()
    for k, gradient in gradients.items():
        np.testing.assert_allclose(gradient, wanted[rename.get(k, k)], rtol=1e-12, atol=1e-13)


# -- what a call stands for


def test_a_call_stands_for_the_equations_of_the_part():
    """Parameters get the name of the part in front, tensors are those of the call."""
    spec = spec_of("h = fc(x)\ny = out(h)")
    assert written(spec) == [
        "h[n,k] = sum[d](x[n,d]*fc_w[k,d]) + fc_b[k]",
        "y[n,k] = sum[d](h[n,d]*out_w[k,d]) + out_b[k]",
    ]
    assert spec.given == ("x", "fc_w", "fc_b", "out_w", "out_b")
    assert [spec.shape_text(k) for k in spec.given] == [
        "(N, D)", "(H, D)", "(H)", "(K, H)", "(K)",
    ]  # fmt: skip
    assert spec.tensors["fc_b"].init == "zeros"
    assert spec.dims == ("N", "D", "H", "K")


def test_parameters_stand_where_their_part_is_declared():
    """The declared order is that of the keywords, whatever the order of the equations."""
    spec = spec_of("y = out(h)\nh = fc(x)", a=Param("H"), fc=Part(LINEAR, K="H"), x=Input("N D"))
    assert spec.given == ("x", "fc_w", "fc_b", "out_w", "out_b", "a")


def test_calls_may_stand_in_any_order():
    """As equations may: what a call reads can be defined below it."""
    assert_same(
        spec_of("y = out(h)\nh[n,k] = max(z[n,k], 0)\nz = fc(x)"),
        spec_of("z = fc(x)\nh[n,k] = max(z[n,k], 0)\ny = out(h)"),
        {"N": 3, "D": 2, "H": 4, "K": 5},
    )


def test_intermediate_tensors_and_constants_get_the_name_of_the_part():
    """A part's mu is fc_mu, its eps fc_eps with the same values; each call has tensors of its own."""
    spec = Spec("s", x=Input("N D"), a=Part(NORM), y=Output("N D"), definition="h = a(x)\ny = a(h)")
    targets = [e.target for e in spec.equations]
    assert targets == ["a_mu", "a_var", "a_sigma", "a_xhat", "h",
                       "a_mu2", "a_var2", "a_sigma2", "a_xhat2", "y"]  # fmt: skip
    assert spec.constants == {"a_eps": (1e-5, 1e-2)}
    assert spec.params == ("a_gamma", "a_beta")


def test_a_part_called_twice_shares_its_parameters():
    """Tied weights: the gradient of a part's parameter adds up over its calls."""
    tied = spec_of("h = fc(x)\ny = fc(h)", x=Input("N H"), out=None, y=Output("N H"))
    plain = Spec(
        "plain",
        x=Input("N H"),
        fc_w=Param("H H"),
        fc_b=Param("H"),
        y=Output("N H"),
        definition="""
            h[n,k] = sum[d](x[n,d]*fc_w[k,d]) + fc_b[k]
            y[n,k] = sum[d](h[n,d]*fc_w[k,d]) + fc_b[k]
        """,
    )
    assert_same(tied, plain, {"N": 3, "H": 2})


def test_constants_are_given_by_number_or_by_name():
    """eps=1e-5 is that number, eps="e" the constant e of the spec; else the part's own values."""

    def constants(part, **own):
        spec = Spec("s", x=Input("N D"), a=part, y=Output("N D"), definition="y = a(x)", **own)
        return spec.constants, written(spec)[2]

    assert constants(Part(NORM, eps=0.5)) == ({}, "a_sigma[n] = sqrt(a_var[n] + 0.5)")
    assert constants(Part(NORM, eps="e"), e=Constant(2.0)) == (
        {"e": (2.0,)}, "a_sigma[n] = sqrt(a_var[n] + e)",
    )  # fmt: skip


def test_constraints_of_parts_are_kept():
    """A part's `where` and the sizes of what it gives hold in the composition, renamed."""
    spec = Spec("s", x=Input("N D"), a=Part(NORM), y=Output("N D"), definition="y = a(x)")
    assert list(map(text, spec.where)) == ["D >= 2"]
    spec = Spec.chain("s", a=Part(CONV, S=1, P=0, D=1), b=RELU_4D)
    assert "H - R + 1 >= 1" in map(text, spec.where)


def test_dimensions_that_nothing_binds_keep_their_names():
    """The number of outputs of a linear layer is free: K here as there."""
    spec = spec_of("h = fc(x)\ny[n] = sum[k](h[n,k])", fc=Part(LINEAR), out=None, y=Output("N"))
    assert spec.dims == ("N", "D", "K")


def test_a_declared_output_binds_dimensions():
    """What a call gives binds sizes as well as what it takes."""
    spec = spec_of("y = fc(x)", fc=Part(LINEAR), out=None, y=Output("N 2*D"))
    assert spec.shape_text("fc_w") == "(2*D, D)"


def test_what_a_part_gives_may_be_sized_by_its_uses():
    """In a residual branch the size of what the last layer gives is that of what it is added to."""
    spec = spec_of("h = fc(x)\nz = out(h)\ny[n,d] = x[n,d] + z[n,d]", y=Output("N D"))
    assert spec.dims == ("N", "D", "H")
    assert spec.shape_text("out_w") == "(D, H)"


def test_sizes_can_be_given_as_expressions():
    """K="4*D" and K=3 are sizes of the part's parameters."""
    spec = spec_of("h = fc(x)\ny = out(h)", fc=Part(LINEAR, K="4*D"), out=Part(LINEAR, K=3),
                   y=Output("N 3"))  # fmt: skip
    assert [spec.shape_text(k) for k in spec.params] == ["(4*D, D)", "(4*D)", "(3, 4*D)", "(3)"]


# -- calls that are mapped


def test_a_call_can_be_mapped_over_leading_indices():
    """`h[b] = fc(x[b])` is the part at each b, with the same parameters."""
    spec = spec_of("h[b] = fc(x[b])\ny[b] = out(h[b])", x=Input("B N D"), y=Output("B N K"))
    assert written(spec)[0] == "h[b,n,k] = sum[d](x[b,n,d]*fc_w[k,d]) + fc_b[k]"
    plain = spec_of(
        "h[a,b,c] = sum[i](x[a,b,i]*fc_w[c,i]) + fc_b[c]\n"
        "y[a,b,c] = sum[i](h[a,b,i]*out_w[c,i]) + out_b[c]",
        x=Input("B N D"), y=Output("B N K"), fc=None, out=None,
        fc_w=Param("H D"), fc_b=Param("H"), out_w=Param("K H"), out_b=Param("K"),
    )  # fmt: skip
    assert_same(spec, plain, {"B": 2, "N": 3, "D": 4, "H": 2, "K": 3})


def test_a_tensor_may_be_the_same_for_all():
    """Heads can share keys and values: what has no leading index is read whole at each."""
    spec = Spec(
        "s", q=Input("G B T D"), k=Input("B S D"), v=Input("B S E"), attend=Part(ATTENTION),
        y=Output("G B T E"), definition="y[g] = attend(q[g], k, v)",
    )  # fmt: skip
    sizes = {"G": 2, "B": 1, "T": 3, "D": 2, "S": 4, "E": 2}
    point = draw(spec, sizes, np.random.default_rng(1))
    got = by_oracle(spec, point)
    alone = [
        oracle(ATTENTION).run(Point({**point.tensors, "q": q}, {}, {n: sizes[n] for n in "BTDSE"}))
        for q in point.tensors["q"]
    ]
    np.testing.assert_allclose(got.outputs[0], [y[0] for y, _ in alone], rtol=1e-13)
    each = [back(dy)["k"] for (_, back), dy in zip(alone, point.cotangents[0], strict=True)]
    np.testing.assert_allclose(got.gradients["k"], sum(each), rtol=1e-12, atol=1e-14)


def test_indices_of_a_part_give_way():
    """An index of a part that means something in the composition gets another letter."""
    spec = Spec(
        "s", d=Input("N T D"), n=Constant(0.5), fc=Part(LINEAR), y=Output("N T K"),
        definition="h[k] = fc(d[k])\ny[a,b,c] = n*h[a,b,c]",
    )  # fmt: skip
    assert written(spec)[0] == "h[k,o,l] = sum[e](d[k,o,e]*fc_w[l,e]) + fc_b[l]"
    plain = Spec(
        "plain", d=Input("N T D"), n=Constant(0.5), fc_w=Param("K D"), fc_b=Param("K"),
        y=Output("N T K"),
        definition="y[a,b,c] = n*(sum[i](d[a,b,i]*fc_w[c,i]) + fc_b[c])",
    )  # fmt: skip
    assert_same(spec, plain, {"N": 2, "T": 3, "D": 2, "K": 4, "n": 0.5})


def test_ranges_of_a_part_hold_for_its_equations_only():
    """The cell's u runs over H, the composition's own u over what it subscripts."""
    spec = Spec(
        "s", x=Input("T N D"), cell=Part(CELL), u=Param("D"), y=Output("N H"),
        definition="""
            z[t,n,v] = x[t,n,v]*u[v]
            h[-1,n,k] = 0
            c[-1,n,k] = 0
            h[t], c[t] = cell(z[t], h[t-1], c[t-1])
            y[n,k] = h[T-1,n,k]
        """,
        ranges={"k": "H"},
    )  # fmt: skip
    assert spec.dims == ("T", "N", "D", "H")
    gates = [e for e in spec.equations if e.target == "cell_i"]
    assert [{k: text(v) for k, v in e.ranges.items()} for e in gates] == [{"v": "H"}]


def test_a_part_over_time_is_one_loop():
    """A recurrence through a part is derived as one block along the index it is mapped over."""
    spec = catalog("lstm")
    blocks = [s for s in oracle(spec).derivation.vjp if isinstance(s, Block)]
    assert len(blocks) == 1
    assert oracle(spec).source("lstm").count("for t in ") == 2


def test_recurrences_may_stand_on_each_other():
    """Two cells, the upper one reading the lower one's state, unroll to the same as one by one."""
    step = Spec("step", x=Input("N H"), h=Input("N H"), w=Param("H H"), y=Output("N H"),
                definition="y[n,k] = tanh(x[n,k] + sum[j](h[n,j]*w[k,j]))")  # fmt: skip
    two = Spec(
        "two", x=Input("T N H"), low=Part(step), up=Part(step), y=Output("T N H"),
        definition="""
            a[-1,n,k] = 0
            b[-1,n,k] = 0
            b[t] = up(a[t], b[t-1])
            a[t] = low(x[t], a[t-1])
            y[t,n,k] = b[t,n,k]
        """,
        ranges={"k": "H"},
    )  # fmt: skip
    point = draw(two, {"T": 4, "N": 2, "H": 3}, np.random.default_rng(2))
    a = b = np.zeros((2, 3))
    for x, y in zip(point.tensors["x"], by_oracle(two, point).outputs[0], strict=True):
        a = np.tanh(x + a @ point.tensors["low_w"].T)
        b = np.tanh(a + b @ point.tensors["up_w"].T)
        np.testing.assert_allclose(y, b, rtol=1e-13)


def test_a_recurrence_can_be_a_part():
    """Two LSTMs on top of each other: initial states of the upper one are inputs of its own."""
    lstm = catalog("lstm")
    spec = Spec.chain("stack", low=lstm, up=Part(lstm, H="M"))
    assert spec.inputs == ("x", "h0", "c0", "up_h0", "up_c0")
    assert spec.outputs == ("h", "c")
    point = draw(spec, {"T": 3, "N": 2, "D": 2, "H": 4, "M": 3}, np.random.default_rng(4))
    given = point.tensors
    low = {k: given[k if k in given else f"low_{k}"] for k in lstm.given}
    (h, _), _ = oracle(lstm).run(Point(low, {}, point.sizes))
    up = {k: h if k == "x" else given[f"up_{k}"] for k in lstm.given}
    expected, _ = oracle(lstm).run(Point(up, {}, {"T": 3, "N": 2, "D": 4, "H": 3}))
    got = by_oracle(spec, point)
    for a, b in zip(got.outputs, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    forward = sum(map(np.vdot, point.cotangents, got.tangents))
    reverse = sum(np.vdot(got.gradients[k], point.tangents[k]) for k in spec.differentiable)
    np.testing.assert_allclose(forward, reverse, rtol=1e-12)


def test_scalar_tensors_go_through():
    """A part may take, hold and give scalars; mapped, they have the leading indices."""
    scale = Spec("scale", x=Input("N"), a=Param(""), y=Output("N"), s=Output(""),
                 definition="m = mean[n](x[n])\ny[n] = a*(x[n] - m)\ns = m**2")  # fmt: skip
    spec = Spec("s", x=Input("B N"), f=Part(scale), y=Output("B N"), s=Output("B"),
                definition="y[b], s[b] = f(x[b])")  # fmt: skip
    assert written(spec) == [
        "f_m[b] = mean[n](x[b,n])", "y[b,n] = f_a*(x[b,n] - f_m[b])",
        "s[b] = f_m[b]**2",
    ]  # fmt: skip


# -- parts of parts, padding, integers

RELU_4D = Spec("relu4", x=Input("N C H W"), y=Output("N C H W"),
               definition="y[n,c,p,q] = max(x[n,c,p,q], 0)")  # fmt: skip


def test_parts_of_parts():
    """A composed spec is a part like any other; names are put in front of names."""
    block = spec_of("h = fc(x)\ny = out(h)", fc=Part(LINEAR, K="H"))
    spec = Spec("s", x=Input("N D"), a=Part(block, K="M"), b=Part(block, H="J"), y=Output("N K"),
                definition="h = a(x)\ny = b(h)")  # fmt: skip
    assert spec.params == (
        "a_fc_w", "a_fc_b", "a_out_w", "a_out_b", "b_fc_w", "b_fc_b", "b_out_w", "b_out_b",
    )  # fmt: skip
    assert [spec.shape_text(k) for k in ("a_out_w", "b_fc_w")] == ["(M, H)", "(J, M)"]


def test_what_lies_outside_of_a_part_s_input():
    """Padding goes with the part: what it reads beyond the edge of a tensor is what it declares."""
    chained = Spec.chain("cnn", conv=Part(CONV, S=1, P=1, D=1), act=RELU_4D, pool=POOL)
    point = draw(
        chained, {"N": 1, "C": 2, "H": 4, "W": 5, "K": 2, "R": 3, "T": 3, "K2": 2, "S": 2},
        np.random.default_rng(3),
    )  # fmt: skip
    conv, _ = oracle(CONV).run(
        Point({k: point.tensors[name] for k, name in (("x", "x"), ("w", "conv_w"), ("b", "conv_b"))}, {"S": 1, "P": 1, "D": 1},
              {n: point.sizes[n] for n in ("N", "C", "H", "W", "K", "R", "T")})
    )  # fmt: skip
    a = np.maximum(conv[0], 0)
    expected = a.reshape(1, 2, 4, 5)[..., :4].reshape(1, 2, 2, 2, 2, 2).max(axis=(3, 5))
    got = by_oracle(chained, point)
    np.testing.assert_allclose(got.outputs[0], expected, rtol=1e-13)
    forward = np.vdot(point.cotangents[0], got.tangents[0])
    reverse = sum(np.vdot(got.gradients[k], point.tangents[k]) for k in chained.differentiable)
    np.testing.assert_allclose(forward, reverse, rtol=1e-12)


def test_sizes_that_are_equal_for_all_are_the_same():
    """A 3x3 convolution with padding 1 keeps the size, so that it can stand in a residual block."""
    same = Part(CONV, K="C", R=3, T=3, S=1, P=1, D=1)
    spec = Spec("s", x=Input("N C H W"), conv=same, y=Output("N C H W"),
                definition="r = conv(x)\ny[n,c,p,q] = x[n,c,p,q] + r[n,c,p,q]")  # fmt: skip
    assert spec.shape_text("conv_w") == "(C, C, 3, 3)"
    assert spec.dims == ("N", "C", "H", "W")


def test_integers_go_through():
    """An embedding is a part too; its labels are integers of the composition."""
    spec = Spec("s", ids=Input("N", dtype=int, range="0..V-1"), e=Part(EMBEDDING), fc=Part(LINEAR),
                y=Output("N K"), definition="h = e(ids)\ny = fc(h)")  # fmt: skip
    assert spec.differentiable == ("e_w", "fc_w", "fc_b")
    assert written(spec)[0] == "h[n,d] = e_w[ids[n],d]"


# -- buffers

STATE = {"bn": Part(RUNNING), "out": None, "y": Output("N H"), "m": Output("H"), "v": Output("H")}


def test_buffers_of_a_part_are_updated():
    """The next value of a part's buffer is the output that the call of the part assigns."""
    spec = spec_of("h = fc(x)\ny, m, v = bn(h)", **STATE)
    assert spec.updates == {"bn_running_mean": "m", "bn_running_var": "v"}
    assert spec.given == (
        "x", "fc_w", "fc_b", "bn_gamma", "bn_beta", "bn_running_mean", "bn_running_var",
    )  # fmt: skip
    assert spec.differentiable_outputs == ("y",)
    assert spec.tensors["bn_running_var"].range == "0.1..3"
    assert spec.shape_text("bn_running_mean") == "(H)"
    outer = spec_of("y, m, v = block(x)", block=Part(spec), fc=None, **(STATE | {"bn": None}))
    assert outer.updates == {"block_bn_running_mean": "m", "block_bn_running_var": "v"}


def test_a_part_with_buffers_is_what_its_spec_is():
    """Outputs, next values and gradients are those of the spec by itself."""
    spec = Spec("s", x=Input("N C"), bn=Part(RUNNING, train="train", momentum=0.1, eps=1e-5),
                train=Constant(True, False), y=Output("N C"), m=Output("C"), v=Output("C"),
                definition="y, m, v = bn(x)")  # fmt: skip
    names = ("gamma", "beta", "running_mean", "running_var")
    for train in (True, False):
        sizes = {"N": 3, "C": 2}
        given = draw(spec, {**sizes, "train": train}, np.random.default_rng(0)).tensors
        given["bn_running_var"] = given["bn_running_var"] ** 2
        plain = {k.removeprefix("bn_"): v for k, v in given.items()}
        ours, back = oracle(spec).run(Point(given, {"train": train}, sizes))
        constants = {"train": train, "momentum": 0.1, "eps": 1e-5}
        theirs, wanted = oracle(RUNNING).run(Point(plain, constants, sizes))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
        (dy,) = (np.arange(6.0).reshape(3, 2),)
        for name, gradient in wanted(dy).items():
            own = f"bn_{name}" if name in names else name
            np.testing.assert_allclose(back(dy)[own], gradient, rtol=1e-13)


def test_a_buffer_that_is_only_read_goes_through():
    """A buffer of a part that nothing updates is a buffer of the whole."""
    scaled = Spec("scaled", x=Input("N D"), s=Buffer("D"), y=Output("N D"),
                  definition="y[n,d] = x[n,d]*s[d]")  # fmt: skip
    spec = spec_of("y = by(x)", by=Part(scaled), fc=None, out=None, y=Output("N D"))
    assert spec.given == ("x", "by_s")
    assert (spec.params, spec.updates, spec.differentiable) == ((), {}, ("x",))


def test_next_values_in_a_chain_are_outputs_of_it():
    """They stand after the chain's own output."""
    spec = Spec.chain("s", fc=Part(LINEAR, K="H"), bn=RUNNING, out=LINEAR)
    assert spec.outputs == ("y", "bn_new_mean", "bn_new_var")
    assert spec.updates == {"bn_running_mean": "bn_new_mean", "bn_running_var": "bn_new_var"}


# -- chains


def test_a_chain_writes_its_definition():
    """Each takes the first output of the one before; free dimensions get names of their own."""
    spec = Spec.chain("mlp", fc1=LINEAR, act=RELU, fc2=LINEAR, drop=DROPOUT,
                      norm=Part(NORM, eps=0.5), fc3=Part(LINEAR, K="M"))  # fmt: skip
    assert spec.definition.splitlines() == [
        "fc1_y = fc1(x)",
        "act_y = act(fc1_y)",
        "fc2_y = fc2(act_y)",
        "drop_y = drop(fc2_y, drop_mask)",
        "norm_y = norm(drop_y)",
        "y = fc3(norm_y)",
    ]
    assert spec.inputs == ("x", "drop_mask")
    assert spec.tensors["drop_mask"].values == (0, 1)
    assert spec.dims == ("N", "D", "K", "K2", "M")
    assert spec.constants == {"drop_p": (0.25, 0.5)}
    assert spec.shape_text("drop_mask") == "(N, K2)"
    assert spec.location.startswith(__file__)


def test_a_chain_is_the_composition_it_writes():
    """The chain of linear, relu and linear is the perceptron that is written out."""
    chained = Spec.chain("s", fc=Part(LINEAR, K="H"), act=RELU, out=LINEAR)
    plain = spec_of("z = fc(x)\nh[n,k] = max(z[n,k], 0)\ny = out(h)")
    assert_same(chained, plain, {"N": 3, "D": 2, "H": 4, "K": 5})


def test_integer_constants_are_the_chain_s_own():
    """A stride stands in shapes, so it is a constant under a name that shapes can have."""
    spec = Spec.chain("s", a=POOL, b=POOL)
    assert spec.constants == {"K": (1, 2, 3), "S": (1, 2), "K2": (1, 2, 3), "S2": (1, 2)}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "name the specs"),
        ({"a": LINEAR, "b": RELU_4D}, "x of b has the shape (N, C, H, W)"),
        ({"a": LINEAR, "b": Spec("f", w=Param("N"), y=Output("N"), definition="y[n] = w[n]")},
         "b takes no input"),
        ({"a": LINEAR, "b": 3}, "Part(3): the first argument is a Spec"),
    ],
)  # fmt: skip
def test_a_wrong_chain_is_explained(parts, said):
    """Specs that do not fit together are refused with what they take."""
    with pytest.raises(SpecError) as caught:
        Spec.chain("s", **parts)
    assert said in str(caught.value)


# -- errors

FITS = "h = fc(x)\ny = out(h)"
BARE = Spec("bare", x=Input("N D"), y=Output("N D"))

WRONG = [
    ("h = fc(x)\ny = outs(h)", {}, "outs is not a function of the language; did you mean out?", "outs(h)"),
    ("h = fc(x)\ny, g = outs(h)", {}, "outs is no part of this spec; did you mean 'out'?", "y, g"),
    ("h = fc(x, x)\ny = out(h)", {}, "fc takes 1 tensor(s), x, not 2", "h = "),
    ("h, g = fc(x)\ny = out(h)", {}, "fc gives 1 tensor(s), y, not 2", "h, g"),
    ("h = fc(x)\ny = out(x)", {"out": Part(LINEAR, D="H")},
     "x of out has the shape (N, D) with D = H, but x has the shape (N, D)", "x)"),
    ("h = fc(x)\ny = out(h)", {"x": Input("B N D")},
     "x of fc has the shape (N, D), but x has the shape (B, N, D)", "x)"),
    ("h = fc(x)\ny = out(h)", {"y": Output("K N")},
     "y of out has the shape (N, K) with K = N, but y has the shape (K, N)", "y = "),
    ("h = fc(x[n])\ny = out(h)", {"x": Input("B N D")}, "index n is neither on the left", "n])"),
    ("y = fc(x)", {}, "no equation calls the part out", None),
    (FITS, {"pi": Param("N")}, "pi is a number to the parts", None),
    (FITS, {x: Param("N") for x in "abcdefghijklmnopqrstuvwz"}, "no letters are left", "h = "),
    ("h = fc(x)\ny = out(h[n,k,k])", {}, "h has 2 dimension(s), not 3", "h[n,k,k]"),
    ("h = fc(x)\ny = out(h)\nh[n] = 1", {}, "h has 1 dimension(s) but 2", "h = fc"),
    (FITS, {"fc": Part(BARE)}, "fc has no definition", "h = "),
    ("h[n,k] = fc[n,k]\ny = out(h)", {}, "fc is a part of this spec: call it", "fc[n,k]"),
    ("h[n,k] = fc + x[n,k]\ny = out(h)", {}, "fc is a part of this spec: call it", "fc + "),
    ("h[n,k] = 2*fc(x)\ny = out(h)", {}, "on a line of its own", "fc(x)"),
    ("fc = out(x)\ny = fc(x)", {}, "fc is a part of this spec: call it", "fc = "),
    ("h = fc(2*x)\ny = out(h)", {}, "a part takes and gives tensors", "2*x"),
    ("h = fc(x=x)\ny = out(h)", {}, "stand in order, without their names", "h = "),
    ("h += fc(x)\ny = out(h)", {}, "on a line of its own", "fc(x)"),
    ("h = fc(z)\ny = out(h)", {}, "z is no tensor of this spec", "z)"),
    ("h[2*b] = fc(x[b])\ny = out(h)", {"x": Input("B N D")}, "plain leading indices", "h[2"),
    (FITS, {"fc_w": Param("N")}, "w of the part fc is called fc_w here", "h = "),
    (FITS, {"K": Constant(2), "fc": Part(LINEAR), "y": Output("N D")},
     'write fc=Part(..., K="K2")', "h = "),
    ("h = fc(x)\ng = fc(h)\ny = out(g)", {}, "x of fc has the shape (N, D), but h has", "h)"),
    ("h = fc(x)\ny = out(h)", {"out": Part(EMBEDDING), "y": Output("N H E")},
     "ids of out has the shape (N)", "h)"),
    ("h = fc(x)\nv[n] = h[n,0]\ny = out(v)", {"out": Part(EMBEDDING, D="K")},
     "ids of out holds integers, but v does not", "v)"),
    ("h = fc(x)\ny, m, v = bn(h)", STATE | {"m": None},
     'm is the next value of bn_running_mean: declare it, m=Output("H")', "m, v = "),
    ("y, m, v = bn(x)\nz, p, q = bn(x)", STATE | {"fc": None, "y": Output("N D"),
                                                      "m": Output("D"), "v": Output("D")},
     "a part for each call, bn2=Part(...)", "z, p"),
    ("y[t], m[t], v[t] = bn(x[t])", STATE | {"x": Input("T N D"), "y": Output("T N D"),
                                            "m": None, "v": None, "fc": None},
     "m[t] has a value for each t, but bn_running_mean has one next value", "m[t]"),
    ("q[n,g,e] = x[n,g+2*e]\nh[n] = fc(q[n])\ny[n,k] = h[n,0,k]",
     {"out": None, "x": Input("N G*E"), "G": Constant(2), "fc": Part(LINEAR, K="E"),
      "y": Output("N E")}, "the range of index g does not show", "q[n"),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "declared", "said", "at"), WRONG)
def test_a_wrong_call_is_explained(definition, declared, said, at):
    """Whatever is wrong with a call is said once, with a caret under the place."""
    shown = message_of(definition, **declared)
    assert said in shown
    lines = shown.splitlines()
    if at is None:
        assert len(lines) == 1
    else:
        assert lines[-2][lines[-1].index("^") :].startswith(at)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (lambda: Part(LINEAR, J="H"), "linear has no dimension or constant J; known are"),
        (lambda: Part("linear"), "the first argument is a Spec"),
        (lambda: spec_of(FITS, fc=Part(LINEAR, K="H J")), "a dimension is one size"),
        (lambda: spec_of(FITS, fc=Part(LINEAR, K="h")), "a dimension is capitals"),
        (lambda: spec_of("y = fc(x)", fc=Part(NORM, eps="e"), out=None, y=Output("N D")),
         "e is no number and no constant of this spec"),
        (lambda: Spec("s", x=Input("N C H W"), a=Part(POOL, K=2.5, S=1), y=Output("N C H W"),
                      definition="y = a(x)"), "K of max_pool2d is an integer"),
        (lambda: Spec("s", x=Input("N D"), fc=Part(LINEAR), y=Output("N K")),
         "no equation calls the part fc"),
    ],
)  # fmt: skip
def test_a_wrong_part_is_explained(part, said):
    """What is given to a part has to be a size or a constant of its spec."""
    with pytest.raises(SpecError) as caught:
        part()
    assert said in str(caught.value)


def test_an_error_inside_a_part_points_at_its_call():
    """The equations of a part stand elsewhere: what is wrong with them here is shown at the call."""
    shown = message_of("h = fc(x)\ny = out(h)\n\ny[n,k] = 0")
    assert "more than one equation defines y[0,0]" in shown
    assert shown.splitlines()[-2:] == ["    y = out(h)", "    ^"]


def test_a_range_that_conflicts_is_shown_at_the_call():
    """Where a tensor of the composition has two sizes for one index of a part, the call says so."""
    shown = message_of("h[t] = fc(x[t])\ng[t] = both(h[t], z[t])\ny[t] = out(g[t])",
                       x=Input("T N D"), z=Input("S N H"), y=Output("T N K"),
                       both=Part(Spec("both", x=Input("N D"), z=Input("N D"), y=Output("N D"),
                                      definition="y[n,d] = x[n,d]*z[n,d]")))  # fmt: skip
    assert "index t runs over" in shown
    assert shown.splitlines()[-2] == "    g[t] = both(h[t], z[t])"
