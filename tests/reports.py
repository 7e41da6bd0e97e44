"""Reports to make views of: one that has everything, one with names that mean harm, small ones."""

from dataclasses import replace

from gradverify import Finding, Report, Status, Verdict
from gradverify.evidence import (
    Declaration,
    DeclaredTensor,
    DifferenceCurve,
    Equations,
    Evidence,
    HeatMap,
    LossCurve,
)
from gradverify.result import CheckResult, Coverage, LayerResult, TensorResult

CASE = "N=3 C=2 dtype=float64 layout=C values=ordinary cotangent=signed seed=7"
MATH = (
    '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"><mtable><mtr><mtd>'
    "<msub><mi>β</mi><mi>c</mi></msub></mtd><mtd><mo>=</mo></mtd><mtd><mn>1</mn></mtd></mtr>"
    "</mtable></math>"
)
WRONG = Finding(
    check="symbolic", question="gradient", message="the gradient of beta is not the derived one",
    tensor="beta", index=(1,), expected=1.5, got=0.5, allowed=1e-14, why="16 x the spread",
    case=CASE, diagnosis="a mean over N where the sum is derived", derived="dbeta[c] = Σ[n] dy[n,c]",
    location="/home/me/project/specs/norm.py:29", kind="factor",
    replay=f'gradverify replay "specs/norm.py::norm::symbolic" "{CASE}"',
)  # fmt: skip
ALSO = replace(WRONG, check="descent", question="slope", got=0.75, kind=None)
SHARED = Finding("contract", "sharing", "dx is dy", severity="warning", tensor="x",
                 location="/home/me/project/specs/norm.py:29")  # fmt: skip
EVIDENCE = Evidence(
    Declaration(
        (DeclaredTensor("x", "input", "(N, C)"), DeclaredTensor("beta", "param", "(C)", "starts at 0"),
         DeclaredTensor("y", "output", "(N, C)")),
        {"eps": (1e-5, 0.01)}, ("N >= 2",),
    ),
    (Equations("definition", "beta[c] = 1", MATH), Equations("cotangents, given dy", "dx[n,c] = 0")),
    (DifferenceCurve("beta", CASE, (1.0, 0.01, 1e-4, 1e-6), (1e-2, 1e-6, 1e-10, 1e-8), 0.01, 1e-12,
                     1e-11, 0.5),),
    (LossCurve("beta", CASE, (0.0, 0.5, 1.0), (4.0, 1.0, 4.0), -12.0, 0.5),),
    (HeatMap("beta", "symbolic", CASE, (2, 2), ((0.1, 2e13), (0.5, float("inf"))), "2 of 9 rows are shown"),),
    ("closed forms of dx are left out",),
)  # fmt: skip
COVERED = Coverage(9, {"dtype": {"float64": 6, "float32": 3, "float16": 0}}, {"N": {"1": 0, "prime": 4}},
                   ("N=1: not allowed by N >= 2",))  # fmt: skip


def layer(name="norm", verdict=Verdict.VERIFIED, findings=(), statuses=(), **rest):
    tensors = {
        "x": TensorResult(Status.PASSED, "", 0.03, 1e-14),
        "beta": TensorResult(Status.PASSED),
    }
    checks = tuple(
        CheckResult(c, s, "" if s is Status.PASSED else f"why {c} is {s}", 9, 0.25, tensors)
        for c, s in {
            **dict.fromkeys(("contract", "forward", "symbolic", "descent"), Status.PASSED),
            "kinks": Status.NOT_APPLICABLE,
            **dict(statuses),
        }.items()
    )
    source = rest.pop("source", f"/home/me/project/specs/{name}.py:12")
    return LayerResult(
        "norm", name, source, verdict, rest.pop("checks", checks), tuple(findings), **rest
    )


def failed(name="norm", *findings, **rest):
    statuses = {"symbolic": Status.FAILED, "descent": Status.FAILED}
    return layer(name, Verdict.FAILED, findings or (WRONG, ALSO, SHARED), statuses, **rest)


def report(*layers, **rest):
    rest = {"folder": "/home/me/project", "root": "/home/me/project"} | rest
    return Report("0.1.0", "default", 7, layers, **rest)


def full():
    """Return a report that has all that there can be."""
    return report(
        layer("calm", coverage=COVERED, evidence=EVIDENCE),
        failed(coverage=COVERED, evidence=EVIDENCE, remarks=("beta is redundant",)),
        layer("unsure", Verdict.INCOMPLETE, statuses={"forward": Status.VACUOUS}),
        problems=("/home/me/project/specs/bad.py:3: does not import: NameError: no",),
        environment={"date": "2031-02-03T04:05:06+00:00", "python": "3.11.7", "numpy": "2.4.6"},
    )


# What must be shown harmlessly, wherever it stands.
HARMFUL = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a \"quoted\" 'name' & more",
    "two\nlines\r\nand\ttabs",
    "\x1b[2Jbell\x07nul\x00del\x7f\ufffe",
    "half \ud800 of a pair",
    "right-to-left \u202eevil\u202c",
    "``` fence ```` <!-- --> | pipe | *bold* _em_ [link](http://x.example) @team #12 :smile:",
    "::error file=a.py::injected %0A::warning::x",
    "]]> &amp; {{ 7*7 }} {% raw %} ${HOME} $(id)",
    "ünïcödé 名前 ∂Σ 🙂",
    "x" * 10_000,
)


def hostile():
    """Return a report in which everything that a user names means harm."""
    layers = []
    for k, text in enumerate(HARMFUL):
        drawn = slice(k in (0, 3, 4))  # pictures take time
        finding = replace(
            WRONG, message=text, tensor=text, diagnosis=text, case=text, derived=text, why=text,
            question=text, kind=text, odd_one_out=text, replay=text,
            location=f"/home/me/project/{text[:60]}.py:3",
        )  # fmt: skip
        tensors = {text: TensorResult(Status.FAILED, text, 2.0, 1.0, text)}
        evidence = Evidence(
            Declaration((DeclaredTensor(text, "input", text, text),), {text: (1.0,)}, (text,)),
            (Equations(text, text, f"<math>{text}</math>"),),
            (replace(EVIDENCE.differences[0], tensor=text, case=text),)[drawn],
            (replace(EVIDENCE.losses[0], tensor=text, case=text),)[drawn],
            (replace(EVIDENCE.heat[0], tensor=text, case=text, cut=text),)[drawn],
            (text,),
        )  # fmt: skip
        layers.append(
            LayerResult(
                text, text, f"/home/me/project/{text[:60]}.py:3", Verdict.FAILED,
                (CheckResult("symbolic", Status.FAILED, text, 3, 0.1, tensors),),
                (finding,), (text,), Coverage(1, {text: {text: 1}}, {text: {text: 0}}, (text,)),
                evidence,
            )
        )  # fmt: skip
    return report(*layers, problems=HARMFUL, environment={"date": "2031-02-03T04:05:06+00:00"})
