"""Claims about gradients are proven for all sizes, refuted with a residual, or left undecided."""

import re
from xml.etree import ElementTree

import pytest
from catalogue import CATALOGUE, oracle

from gradverify import Constant, Input, Output, Param, Part, Spec, SpecError, UsageError, prove
from gradverify.calculus.derive import derive
from gradverify.calculus.show import NOT_CLOSED, emit
from gradverify.cli import main
from gradverify.notation.tree import Call, Number
from gradverify.proof import _confirmed, closed_forms

BN = "gamma[c]*({}dy[n,c] - {}xhat[n,c]*sum[m](dy[m,c]*xhat[m,c]))/(N*{})"


def claims(name, equations):
    """What becomes of equations about a spec of the catalogue, by target."""
    return {p.target: p for p in prove(CATALOGUE[name], equations)}


def test_batch_norm_is_the_papers():
    """The six equations of Ioffe & Szegedy (2015), section 3, are proven for all sizes."""
    found = {p.target: p.status for p in prove(CATALOGUE["batch_norm"])}
    assert found == dict.fromkeys(["dxhat", "dvar", "dmu", "dx", "dgamma", "dbeta"], "proven")


PROVEN = [
    ("batch_norm", f"dx[n,c] = {BN.format('N*', 'sum[m](dy[m,c]) - ', 'sigma[c]')}"),
    ("batch_norm", "dx[n,c] = gamma[c]/sigma[c]*(dy[n,c] - mean[k](dy[k,c]) "
                   "- xhat[n,c]*mean[k](dy[k,c]*xhat[k,c]))"),
    ("layer_norm", "dx[n,d] = (gamma[d]*dy[n,d] - mean[k](gamma[k]*dy[n,k]) "
                   "- xhat[n,d]*mean[k](gamma[k]*dy[n,k]*xhat[n,k]))/sigma[n]"),
    ("rms_norm", "dx[n,d] = (gamma[d]*dy[n,d] - xhat[n,d]*mean[k](gamma[k]*dy[n,k]*xhat[n,k]))"
                 "/sqrt(mean[k](x[n,k]**2) + eps)"),
    ("group_norm", "dh[n,c,h,w] = gamma[c]*dy[n,c,h,w]\n"
                   "dx[n,g*K+k,h,w] = (dh[n,g*K+k,h,w] - mean[i,p,q](dh[n,g*K+i,p,q]) - "
                   "xhat[n,g*K+k,h,w]*mean[i,p,q](dh[n,g*K+i,p,q]*xhat[n,g*K+i,p,q]))/sigma[n,g]"),
    ("softmax", "dx[n,c] = y[n,c]*(dy[n,c] - sum[k](dy[n,k]*y[n,k]))"),
    ("softmax", "dx[n,c] = sum[k](dy[n,k]*y[n,k]*(where(k == c, 1, 0) - y[n,c]))"),
    ("log_softmax", "dx[n,c] = dy[n,c] - exp(y[n,c])*sum[k](dy[n,k])"),
    ("softmax_cross_entropy", "dx[n,c] = dloss/N*(exp(x[n,c] - logsumexp[k](x[n,k])) "
                              "- where(c == t[n], 1, 0))"),
    ("causal_attention", "dp[b,t,s] = sum[e](dy[b,t,e]*v[b,s,e])\n"
                         "dz[b,t,s] = p[b,t,s]*(dp[b,t,s] - sum[j](dp[b,t,j]*p[b,t,j]))\n"
                         "dq[b,t,d] = sum[s](dz[b,t,s]*k[b,s,d])/sqrt(D)"),
    ("lstm_cell", "dc[n,u] = f[n,u]*(dc_next[n,u] + dh_next[n,u]*o[n,u]*(1 - tanh(c_next[n,u])**2))"),
    ("prelu", "da[c] = sum[n](where(x[n,c] < 0, x[n,c]*dy[n,c], 0))"),
    ("silu", "dx[n,c] = dy[n,c]*sigmoid(x[n,c])*(1 + x[n,c]*(1 - sigmoid(x[n,c])))"),
    ("tanh", "dx[n,c] = 4*dy[n,c]/(exp(x[n,c]) + exp(-x[n,c]))**2"),
    ("embedding", "dw[ids[n],d] += dy[n,d]"),
    ("linear", "dw[k,d] = sum[n](dy[n,k]*x[n,d])"),
    ("l2_normalize", "dx[n,d] = where(sqrt(sum[k](x[n,k]**2)) > eps, (dy[n,d] - "
                     "y[n,d]*sum[k](y[n,k]*dy[n,k]))/norm[n], dy[n,d]/eps)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "equations"), PROVEN)
def test_a_right_gradient_is_proven(name, equations):
    """Gradients as people write them are proven, whatever way they are written."""
    for proof in prove(CATALOGUE[name], equations):
        assert proof.status == "proven", proof


REFUTED = [
    ("batch_norm", f"dx[n,c] = {BN.format('(N-1)*', 'sum[m](dy[m,c]) - ', 'sigma[c]')}",
     "-(gamma[c]*dy[n,c]/(N*sigma[c]))"),
    ("batch_norm", f"dx[n,c] = {BN.format('N*', '', 'sigma[c]')}",
     "gamma[c]*sum[m](dy[m,c])/(N*sigma[c])"),
    ("batch_norm", "dx[n,c] = gamma[c]*dy[n,c]/(sqrt(var[c]) + eps)", "sqrt(var[c])"),
    ("batch_norm", f"dx[n,c] = {BN.format('N*', 'sum[m](dy[m,c]) - ', '(sqrt(var[c]) + eps)')}",
     "/(eps + sqrt(var[c]))"),
    ("batch_norm", "dgamma[c] = mean[n](dy[n,c]*xhat[n,c])",
     "(1 - N)*sum[n](xhat[n,c]*dy[n,c])/N"),
    ("layer_norm", "dx[n,d] = gamma[d]*(dy[n,d] - mean[k](dy[n,k]) "
                   "- xhat[n,d]*mean[k](dy[n,k]*xhat[n,k]))/sigma[n]", "sum["),
    ("rms_norm", "dx[n,d] = gamma[d]*dy[n,d]/rms[n]",
     "x[n,d]*sum[m](x[n,m]*gamma[m]*dy[n,m])/(D*rms[n]**3)"),
    ("softmax", "dx[n,c] = y[n,c]*(1 - y[n,c])*dy[n,c]", "sum["),
    ("softmax", "dx[n,c] = dy[n,c] - y[n,c]*sum[k](dy[n,k]*y[n,k])", "dy[n,c]*(1 - y[n,c])"),
    ("log_softmax", "dx[n,c] = dy[n,c] - y[n,c]*sum[k](dy[n,k])", "exp(y[n,c])"),
    ("softmax_cross_entropy", "dx[n,c] = dloss*(exp(logp[n,c]) - where(c == t[n], 1, 0))",
     "dloss*"),
    ("linear", "db[k] = mean[n](dy[n,k])", "(1 - N)*sum[n](dy[n,k])/N"),
    ("prelu", "da[c] = sum[n](x[n,c]*dy[n,c])", "where(x[n,c] > 0, x[n,c]*dy[n,c], 0)"),
    ("tanh", "dx[n,c] = dy[n,c]*(1 - y[n,c])", "y[n,c]*dy[n,c]*("),
    ("attention", "dv[b,s,e] = sum[t](u[b,t,s]*dy[b,t,e])", "sum["),
    ("lstm_cell", "dc[n,u] = f[n,u]*dc_next[n,u]", "f[n,m]*o[n,m]*dh_next[n,m]*(tanh(c_next[n,m])**2 - 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "equations", "residual"), REFUTED)
def test_a_wrong_gradient_is_refuted(name, equations, residual):
    """A wrong gradient comes with what is too much or missing, and with numbers that show it."""
    (proof,) = prove(CATALOGUE[name], equations)
    assert proof.status == "refuted"
    assert residual in proof.residual, proof.residual
    assert proof.witness.claimed != proof.witness.derived
    assert all(size <= 2 for d, size in proof.witness.sizes.items() if d in CATALOGUE[name].dims)


KEY_BIAS = Spec(
    "attention_with_key_bias",
    x=Input("T D"), kb=Param("D"), vb=Param("D"), y=Output("T D"),
    definition="""
        z[t,s] = sum[d](x[t,d]*(x[s,d] + kb[d]))/sqrt(D)
        p[t,s] = exp(z[t,s]) / sum[j](exp(z[t,j]))
        y[t,d] = sum[s](p[t,s]*(x[s,d] + vb[d]))
    """,
)  # fmt: skip
SHIFT = Spec(
    "shifted_softmax",
    x=Input("N C"), b=Param(""), r=Param("N"), y=Output("N C"),
    definition="y[n,c] = exp(x[n,c] + b + r[n]) / sum[k](exp(x[n,k] + b + r[n]))",
)  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "redundant"),
    [
        (CATALOGUE["linear_batch_norm"], ["db"]),
        (CATALOGUE["multi_head_attention"], ["dkey_b"]),
        (KEY_BIAS, ["dkb"]),
        (SHIFT, ["db", "dr"]),
    ],
)
def test_what_does_no_work_is_proven_redundant(spec, redundant):
    """A bias before batch norm, the key bias of attention and the shift of logits do nothing."""
    found = prove(spec)
    assert [p.target for p in found] == redundant
    assert {p.status for p in found} == {"proven"}


def square(claim, definition="y[n] = x[n]**2/2"):
    """The proof of one claim about a spec of one input."""
    (proof,) = prove(Spec("s", x=Input("N"), y=Output("N"), definition=definition), claim)
    return proof


def test_what_is_not_sure_is_not_taken():
    """sqrt(x**2) is not x, x/x is 1 only where x is not 0, log(x**2) is not 2*log(x)."""
    assert square("dx[n] = dy[n]*sqrt(x[n]**2)").status == "refuted"
    assert square("dx[n] = dy[n]*abs(x[n])").status == "refuted"
    found = square("dx[n] = dy[n]*x[n]**3/x[n]**2")
    assert found.status == "proven"
    assert "x[n]**2 != 0" in found.assumed
    found = square("dx[n] = 2*dy[n]/x[n]", "y[n] = log(x[n]**2)")
    assert found.status == "proven"
    wrong = square("dx[n] = dy[n]*(2*log(x[n]) + 2)", "y[n] = x[n]*log(x[n]**2)")
    assert wrong.status != "proven"


def test_what_cannot_be_decided_is_said_to_be_undecided():
    """A claim that is right for a reason the normal form does not know is not called proven."""
    found = square("dx[n] = dy[n]*(sin(x[n])**2 + cos(x[n])**2)", "y[n] = x[n]")
    assert found.status == "undecided"
    assert found.points > 5
    assert "proves nothing" in str(found)


def test_a_constant_that_is_off_in_its_tenth_digit_is_refuted():
    """0.0447150001 for 0.044715 is wrong, not rounding."""
    right = ("dx[n,c] = dy[n,c]*0.5*(1 + t[n,c] + x[n,c]*(1 - t[n,c]**2)"
             "*sqrt(2/pi)*(1 + 3*0.044715*x[n,c]**2))")  # fmt: skip
    (found,) = prove(CATALOGUE["gelu"], right)
    assert found.status == "proven"
    (found,) = prove(CATALOGUE["gelu"], right.replace("0.044715", "0.0447150001"))
    assert found.status == "refuted"


@pytest.mark.parametrize("name", sorted(CATALOGUE.keys() - {"transformer_block"}))
def test_no_closed_form_changed_a_little_is_shown(name):
    """Three times a closed form, or one more than it, disagrees with the steps: it is not shown."""
    for closed in closed_forms(CATALOGUE[name]).values():
        if closed is None:
            continue
        spec, derivation = CATALOGUE[name], derivation_of(name)
        for body in (Call("+", (closed.body, Number(1))), Call("*", (Number(3), closed.body))):
            if closed.body == Number(0) and body.function == "*":
                continue
            changed = type(closed)(closed.target, closed.subscripts, body, closed.ranges)
            assert not _confirmed(spec, derivation, changed)


def derivation_of(name):
    spec = CATALOGUE[name]
    return derive(spec.program, spec.differentiable)


CLOSED = {
    "batch_norm": "dx[n,c] = gamma[c]*(N*dy[n,c] - sum[m](dy[m,c]) - xhat[n,c]"
                  "*sum[m](xhat[m,c]*dy[m,c]))/(N*sigma[c])",
    "layer_norm": "dx[n,d] = (D*gamma[d]*dy[n,d] - sum[m](gamma[m]*dy[n,m]) - xhat[n,d]"
                  "*sum[m](gamma[m]*xhat[n,m]*dy[n,m]))/(D*sigma[n])",
    "rms_norm": "dx[n,d] = (D*gamma[d]*dy[n,d] - xhat[n,d]"
                "*sum[m](gamma[m]*xhat[n,m]*dy[n,m]))/(D*rms[n])",
    "softmax": "dx[n,c] = y[n,c]*(dy[n,c] - sum[k](y[n,k]*dy[n,k]))",
    "log_softmax": "dx[n,c] = dy[n,c] - exp(y[n,c])*sum[k](dy[n,k])",
    "softmax_cross_entropy": "dx[n,c] = dloss*(exp(logp[n,c]) - where(c == t[n], 1, 0))/N",
    "linear": "dx[n,d] = sum[k](w[k,d]*dy[n,k])",
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_are_those_of_textbooks(name):
    """The gradient of the input comes out on one line, factored, by what the definition names."""
    assert str(closed_forms(CATALOGUE[name])["x"]) == CLOSED[name]


def test_l2_normalization_and_attention_have_the_usual_closed_forms():
    """dx = (dy - y sum(y dy))/r, and dV = P' dY."""
    spec = Spec("l2", x=Input("N D"), y=Output("N D"),
                definition="r[n] = sqrt(sum[d](x[n,d]**2))\ny[n,d] = x[n,d]/r[n]")  # fmt: skip
    assert (
        str(closed_forms(spec)["x"]) == "dx[n,d] = (dy[n,d] - y[n,d]*sum[m](y[n,m]*dy[n,m]))/r[n]"
    )
    found = closed_forms(CATALOGUE["attention"])["v"]
    assert str(found) == "dv[b,s,e] = sum[t](p[b,t,s]*dy[b,t,e])"


def test_where_no_closed_form_is_found_that_is_said(capsys):
    """derive shows what was found and names the gradients that have only the equations above."""
    assert main(["derive", "lstm_cell"]) == 0
    shown = capsys.readouterr().out
    assert "closed forms, each checked against the equations above" in shown
    assert "(no closed form was found of dx, dh, dwx, dwh, db)" in shown


@pytest.mark.parametrize("style", ["unicode", "latex", "mathml", "steps"])
@pytest.mark.parametrize("name", ["batch_norm", "attention", "rnn", "softmax_cross_entropy"])
def test_closed_forms_stand_in_every_notation(name, style):
    """They follow the equations, as well-formed MathML too; where there is none no page is empty."""
    spec, forms = CATALOGUE[name], closed_forms(CATALOGUE[name])
    shown = emit(oracle(name), style, name, spec.params, forms)
    bare = emit(oracle(name), style, name, spec.params)
    if style == "mathml":
        pages = ElementTree.fromstring(shown).iter("{http://www.w3.org/1998/Math/MathML}mtable")
        assert all(len(page) for page in pages)
    if any(forms.values()):
        more = len(shown.splitlines()) - len(bare.splitlines())
        assert more >= sum(f is not None for f in forms.values())
    elif style == "unicode":
        assert shown == bare + f"\n{name}: {NOT_CLOSED}\n"
    elif style == "latex":
        assert shown == bare
    elif style == "steps":
        assert shown == bare + "\nNo closed form was found: these equations are what there is.\n"


def test_a_part_is_proven_like_the_spec_itself():
    """Claims go through parts: the softmax of a composition has the gradient of softmax."""
    spec = Spec("s", x=Input("N C"), w=Param("C"), p=Part(CATALOGUE["softmax"]), y=Output("N C"),
                definition="z[n,c] = w[c]*x[n,c]\nh = p(z)\ny[n,c] = h[n,c]")  # fmt: skip
    (proof,) = prove(spec, "dw[c] = sum[n](x[n,c]*h[n,c]*(dy[n,c] - sum[k](dy[n,k]*h[n,k])))")
    assert proof.status == "proven", proof


WRONG = [
    ("", "the gradients is empty"),
    ("dx[n,c] = dy[n,c]*nosuch[c]", "nosuch is declared nowhere"),
    ("dy[n,c] = 1", "dy is given"),
    ("xhat[n,c] = 1", "xhat is part of the definition"),
    ("foo[n,c] = dy[n,c]", "foo is no gradient of the definition; what can be claimed is dbeta"),
    ("foo[n,c] = dy[n,c]\nbar[n,c] = foo[n,c] + bar[n,c]", "define no gradient; what can be"),
    (
        "dbeta[c] = sum[n](dy[n,c])\ndgama[c] = sum[n](dy[n,c])",
        "dgama is no gradient of the definition; did you mean dgamma?\n    dgama[c] = sum",
    ),
    ("dx[n] = dy[n,0]", "dx has 2 dimension(s)"),
    ("dx[n,c] = ", "cannot be read"),
]


@pytest.mark.parametrize(("equations", "message"), WRONG)
def test_wrong_claims_are_explained(equations, message):
    """What cannot be read as claims gets one message with the place."""
    with pytest.raises(SpecError, match=re.escape(message)):
        prove(CATALOGUE["batch_norm"], equations)


def test_a_spec_declares_gradients_that_can_be_read():
    """Gradients that are no equations are an error of the spec, when it is made."""
    with pytest.raises(SpecError, match="gradients cannot be read"):
        Spec("s", x=Input("N"), y=Output("N"), definition="y[n] = x[n]", gradients="dx[n] =")
    with pytest.raises(SpecError, match="gradients are a text"):
        Spec("s", x=Input("N"), y=Output("N"), definition="y[n] = x[n]", gradients=3)


def test_there_is_something_to_prove():
    """Without claims and without a gradient that vanishes, or a definition, that is said."""
    with pytest.raises(UsageError, match="nothing to prove about 'relu'"):
        prove(CATALOGUE["relu"])
    with pytest.raises(UsageError, match="has no definition"):
        prove(Spec("s", x=Input("N"), y=Output("N")), "dx[n] = dy[n]")


def test_the_command_line_proves(tmp_path, capsys):
    """Exit code 0 where all is proven, 1 where not, 2 where the file cannot be read."""
    assert main(["prove", "batch_norm"]) == 0
    assert "dvar: proven for all sizes and values" in capsys.readouterr().out
    file = tmp_path / "claims.txt"
    file.write_text("dgamma[c] = mean[n](dy[n,c]*xhat[n,c])\n")
    assert main(["prove", "batch_norm", "--gradients", str(file)]) == 1
    shown = capsys.readouterr().out
    assert "dgamma: refuted" in shown
    assert "dgamma[c], claimed - derived = (1 - N)*sum[n](xhat[n,c]*dy[n,c])/N" in shown
    assert re.search(r"at eps=\S+, N=2, C=1, x=\[\[", shown)
    assert main(["prove", "batch_norm", "--gradients", str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    file.write_text("dgama[c] = 0\n")
    assert main(["prove", "batch_norm", "--gradients", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"gradverify: {file}: spec 'batch_norm': dgama is no")


@pytest.mark.parametrize("name", ["batch_norm_2d", "group_norm", "attention", "mlp", "lstm_cell"])
def test_closed_forms_can_be_claimed(name):
    """What derive prints as closed forms can be written as gradients=, and is proven."""
    forms = [str(form) for form in closed_forms(CATALOGUE[name]).values() if form is not None]
    assert {p.status for p in prove(CATALOGUE[name], "\n".join(forms))} == {"proven"}


def test_a_claim_that_reads_a_wrong_one_says_so():
    """A right equation that reads a refuted cotangent is refuted, with the reason."""
    wrong, right = prove(CATALOGUE["batch_norm"], """
        dxhat[n,c] = 2*gamma[c]*dy[n,c]
        dsigma[c]  = -sum[n](dxhat[n,c]*xhat[n,c])/sigma[c]
    """)  # fmt: skip
    assert (wrong.status, wrong.reads) == ("refuted", ())
    assert (right.status, right.reads) == ("refuted", ("dxhat",))
    assert "(it reads dxhat, refuted as well)" in str(right)


def test_constants_stay_symbols():
    """A claim with a number in place of a constant is refuted, though right at one value."""
    spec = Spec("s", x=Input("N"), k=Constant(2.0, 3.0), y=Output("N"), definition="y[n] = k*x[n]")
    assert prove(spec, "dx[n] = 2*dy[n]")[0].status == "refuted"
    assert prove(spec, "dx[n] = k*dy[n]")[0].status == "proven"


def test_what_a_proof_assumes_is_shown():
    """Where the definition has no derivative is said, sqrt at 0 too, on lines that fit a screen."""
    spec = Spec("s", x=Input("N D"), y=Output("N D"), definition="""
        a_long_name_of_a_root[n] = sqrt(sum[d](x[n,d]**2))
        z[n,d]       = x[n,d]**1.5 + x[n,d]**0.5
        y[n,d]       = z[n,d]/a_long_name_of_a_root[n]
    """)  # fmt: skip
    (proof,) = prove(spec, "dz[n,d] = dy[n,d]/a_long_name_of_a_root[n]")
    assert proof.assumed == ("N >= 1", "D >= 1", "sum[d](x[n,d]**2) > 0", "x[n,d] >= 0",
                             "x[n,d] > 0", "a_long_name_of_a_root[n] != 0")  # fmt: skip
    assert str(proof).endswith("x[n,d] > 0,\n      a_long_name_of_a_root[n] != 0")


N = {"x": Input("N"), "y": Output("N")}
MASK = Input("N", values=(0, 1), differentiable=False)
LABEL = {"t": Input("N", dtype=int, range="0..C"), "z": Input("C")}
FALSE = [
    # a tensor called like a test is not 0 or 1, one called like a function is no function
    ({"positive": Input("N")}, "x[n]*positive[n]**2", "dy[n]*positive[n]"),
    ({"equal": Input("N")}, "x[n]*equal[n]**2", "dy[n]*equal[n]"),
    ({"exp": Input("N"), "z": Input("N", range="4..5")}, "x[n]*exp[n]*sqrt(z[n])",
     "dy[n]*sqrt(exp[n]**2*z[n])"),
    ({"log": Input("N")}, "x[n]*exp(log[n])", "dy[n]*log[n]"),
    # < is not <= where both sides may well be equal: indices, masks, constants, max(x, 0)
    ({}, "where(n**2 <= 1, x[n], 0)", "where(n**2 < 1, dy[n], 0)"),
    ({}, "where(n/2 < 1/2, x[n], 0)", "where(n/2 <= 1/2, dy[n], 0)"),
    ({"m": MASK}, "where(m[n] > 0, x[n], 0)", "where(m[n] >= 0, dy[n], 0)"),
    ({"m": MASK, "z": Input("N")}, "where(m[n]*z[n] > 0, x[n], 0)",
     "where(m[n]*z[n] >= 0, dy[n], 0)"),
    ({"k": Constant(0.0, 1.0)}, "where(k > 0, x[n], 0)", "where(k >= 0, dy[n], 0)"),
    ({"z": Input("N")}, "where(relu(z[n]) > 0, x[n], 0)", "where(relu(z[n]) >= 0, dy[n], 0)"),
    ({"k": Constant(0.0, 1.0)}, "where(k*x[n] == 0, x[n], 0)", "where(x[n] == 0, dy[n], 0)"),
    # a label may be none of the classes
    (LABEL, "x[n]*sum[c](where(c == t[n], 1, 0) + 0*z[c])", "dy[n]"),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "y", "dx"), FALSE)
def test_a_false_claim_that_looks_right_is_refuted(declared, y, dx):
    """What is nearly equal is not proven: names, ties, factors and labels that may be 0."""
    spec = Spec("s", **{k: v for k, v in N.items() if k != "y"}, **declared, y=N["y"],
                definition=f"y[n] = {y}")  # fmt: skip
    (proof,) = prove(spec, f"dx[n] = {dx}")
    assert proof.status == "refuted", proof


def test_ties_that_real_values_rarely_have_do_not_matter():
    """Whoever writes <= for < at a kink is right, also where a label of -1 or 1 is a factor."""
    assert square("dx[n] = where(x[n] <= 0, 0, dy[n])", "y[n] = max(x[n], 0)").status == "proven"
    spec = Spec("s", **N, t=Input("N", values=(-1, 1), differentiable=False),
                definition="y[n] = max(1 - t[n]*x[n], 0)")  # fmt: skip
    assert prove(spec, "dx[n] = where(t[n]*x[n] <= 1, -t[n]*dy[n], 0)")[0].status == "proven"


def test_a_label_with_a_range_is_one_of_the_classes():
    """Exactly one class is the label where its declared range says so."""
    spec = Spec("s", **N, z=Input("C"), t=Input("N", dtype=int, range="0..C-1"),
                definition="y[n] = x[n]*sum[c](where(c == t[n], z[c], 0))")  # fmt: skip
    assert prove(spec, "dx[n] = z[t[n]]*dy[n]")[0].status == "proven"


def test_a_claim_that_is_wrong_for_some_values_only_is_refuted():
    """The sign lost under a root shows where w < 0 only, which is half of all values."""
    spec = Spec("s", **N, w=Param("N"), z=Input("N", range="1..2"),
                definition="y[n] = x[n]*w[n]*sqrt(z[n] + w[n])")  # fmt: skip
    (proof,) = prove(spec, "dx[n] = dy[n]*sqrt(w[n]**2*z[n] + w[n]**3)")
    assert proof.status == "refuted", proof


def test_a_tensor_that_is_called_like_a_cotangent_stays_itself():
    """Where dy is an input, dy in a claim and in a closed form is that input."""
    spec = Spec("s", x=Input("N"), dy=Input("N"), y=Output("N"), definition="y[n] = x[n]*dy[n]")
    (proof,) = prove(spec, "dx[n] = dy[n]*dy[n]")
    assert proof.status == "refuted"
    assert proof.residual != "dx[n], claimed - derived = dy[n]*(dy[n] - dy[n])"
    form = str(closed_forms(spec)["x"])
    assert prove(spec, form)[0].status == "proven", form


def test_a_condition_among_other_factors_is_written_as_where():
    """A test on a real number beside one on an index can be printed, and is what it was."""
    spec = Spec("s", v=Param(""), z=Input("N"), w=Input("M"), y=Output("N M"),
                definition="y[i,a] = where(a < 2, abs(v)*(z[i] - 2), 0) + w[a]")  # fmt: skip
    form = str(closed_forms(spec)["v"])
    assert prove(spec, form)[0].status == "proven", form


def test_a_proof_names_what_it_divides_by():
    """(N-1)/(N-1) and k/k are 1 where they are numbers, and that is said; of N it need not be."""
    spec = Spec("s", **N, k=Constant(0.0, 1.0), definition="y[n] = k*x[n]/N")
    (proof,) = prove(spec, "dx[n] = (N-1)/(N-1)*k**2/k*dy[n]/N")
    assert proof.assumed == ("N >= 1", "k != 0", "N - 1 != 0")


def test_a_proof_assumes_no_ties_away_that_are_part_of_it():
    """Of a mask of 0 and 1 nothing is assumed."""
    spec = Spec("s", **N, m=MASK, definition="y[n] = where(m[n] > 0, x[n], 0)")
    (proof,) = prove(spec, "dx[n] = where(m[n] <= 0, 0, dy[n])")
    assert proof.status == "proven"
    assert proof.assumed == ("N >= 1",)


@pytest.mark.parametrize("ends", ["0..C", "-1..C-1"])
def test_labels_that_leave_a_tensor_are_an_error(ends):
    """A definition or claim that subscripts by a label reads within the tensor, or it is said."""
    label = {"z": Input("C"), "t": Input("N", dtype=int, range=ends)}
    spec = Spec("s", **N, **label, definition="y[n] = x[n]*sum[c](where(c == t[n], z[c], 0))")
    for claim in ("dx[n] = z[t[n]]*dy[n]", "dz[t[n]] += x[n]*dy[n]"):
        with pytest.raises(SpecError, match=re.escape('t=Input(..., range="0..C-1")')):
            prove(spec, claim)
    with pytest.raises(SpecError, match=r"t\[n\] may be"):
        Spec("s", **N, **label, definition="y[n] = x[n]*z[t[n]]")


def test_a_power_with_an_exponent_that_is_read_assumes_a_positive_base():
    """x**t is exp(t*log(x)) to a proof, so that sqrt(x**(2*t)) is x**t: of x > 0 only."""
    spec = Spec("s", **N, t=Input("N", dtype=int, range="1..3"), definition="y[n] = x[n]**t[n]")
    (proof,) = prove(spec, "dx[n] = t[n]*sqrt(x[n]**(2*t[n]))/x[n]*dy[n]")
    assert proof.status == "proven"
    assert "x[n] > 0" in proof.assumed
