"""What looks like a layer is found in the text, and is a layer that is registered or it is not."""

from textwrap import dedent

import pytest

from gradverify.errors import UsageError
from gradverify.gate.definitions import Definitions, layer_names
from gradverify.gate.sources import Project, Source, parse, python_files
from gradverify.gate.unregistered import Search, base_names


@pytest.fixture
def search(tmp_path):
    """Returns what makes the search of a project of files, `specs/` its spec files."""

    def make(bases=(), **files):
        for name, text in files.items():
            path = tmp_path / (name.replace("__", "/").replace("/init", "/__init__") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), "utf-8")
        found = python_files(tmp_path, [tmp_path])
        specs = frozenset(f for f in found if f.startswith("specs/"))
        definitions = Definitions(Project(tmp_path, found, specs))
        return Search(definitions, base_names(definitions, bases))

    return make


def found(search, folder="mylib"):
    files = [f for f in search.project.files if f.startswith(folder)]
    return {c.name: c.why for c in search.candidates(files)}


BOTH = "    def forward(self, x): ...\n    def backward(self, dy): ...\n"
LOOKS = {
    f"class Norm:\n{BOTH}": {"mylib.a:Norm": "it has a backward next to its forward"},
    f"if True:\n    class Norm:\n{BOTH.replace('    def', '        def')}": {
        "mylib.a:Norm": "it has a backward next to its forward"
    },
    f"class Outer:\n    class Norm:\n{BOTH.replace('    def', '        def')}": {
        "mylib.a:Outer.Norm": "it has a backward next to its forward"
    },
    f"class A:\n{BOTH}class B(A):\n    def backward(self, dy): ...\nclass C(A): pass\n": {
        "mylib.a:A": "it has a backward next to its forward",
        "mylib.a:B": "it has a backward next to its forward",
    },
    "class A:\n    def forward(self, x): ...\n    backward = _shared\n": {
        "mylib.a:A": "it has a backward next to its forward"
    },
    "class A:\n    def forward(self, x): ...\n": {},
    "class A:\n    def forward(self, x):\n        'Do it.'\n        raise NotImplementedError\n    def backward(self, dy):\n        raise NotImplementedError('later')\n": {},
    f"from typing import Protocol\nclass A(Protocol):\n{BOTH}": {},
    f"import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n{BOTH}": {},
    "def forward(x): ...\ndef backward(dy): ...\n": {"mylib.a:forward": "backward stands next to it"},
    "def conv_forward(x): ...\ndef conv_backward(dy): ...\ndef other_forward(x): ...\n": {
        "mylib.a:conv_forward": "conv_backward stands next to it"
    },
    "def forwarding(x): ...\ndef backwarding(x): ...\n": {},
    "import torch\nclass F(torch.autograd.Function): ...\n": {
        "mylib.a:F": "it is a torch.autograd.Function"
    },
    "from torch.autograd import Function as Fn\nclass F(Fn): ...\nclass G(F): ...\n": {
        "mylib.a:F": "it is a torch.autograd.Function",
        "mylib.a:G": "it is a torch.autograd.Function",
    },
    "from torch import nn\nclass M(nn.Module):\n    def forward(self, x): ...\n": {},
    "import jax\n@jax.custom_vjp\ndef f(x): ...\n": {"mylib.a:f": "it is a jax.custom_vjp"},
    "import jax, functools\n@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))\ndef f(x, n): ...\n": {
        "mylib.a:f": "it is a jax.custom_vjp"
    },
    "from jax import custom_vjp\nf = custom_vjp(_f)\n": {"mylib.a:f": "it is a jax.custom_vjp"},
    "from jax import custom_vjp\nf: object = custom_vjp(_f)\n": {"mylib.a:f": "it is a jax.custom_vjp"},
    "import jax\nf = jax.jit(g)\n": {},
    "from mylib.base import Layer\nclass A(Layer): ...\n": {"mylib.a:A": "it derives from mylib.base:Layer"},
    "from mylib import Layer\nclass A(Layer[int]): ...\n": {"mylib.a:A": "it derives from mylib.base:Layer"},
    "import mylib as m\nclass A(m.Layer): ...\nclass B(A): ...\n": {
        "mylib.a:A": "it derives from mylib.base:Layer", "mylib.a:B": "it derives from mylib.base:Layer",
    },
    "from .middle import Middle\nclass A(Middle): ...\n": {"mylib.a:A": "it derives from mylib.base:Layer"},
    "from .base import *\nclass A(Layer): ...\n": {"mylib.a:A": "it derives from mylib.base:Layer"},
    "from elsewhere import Op\nclass A(Op): ...\n": {"mylib.a:A": "it derives from elsewhere.Op"},
    "class A(B): ...\nclass B(A): ...\n": {},
    "from mylib.round import Turn\nclass A(Turn): ...\n": {},
    "syntax error(": {},
}  # fmt: skip


@pytest.mark.parametrize("text", LOOKS)
def test_what_looks_like_a_layer(search, text):
    """Each sign of a layer is seen, also through re-exports and bases of bases, and no other."""
    made = search(
        ("mylib.base.Layer", "elsewhere.Op"),
        mylib__init="from .base import Layer\n",
        mylib__base="class Layer:\n    def forward(self, x): ...\n    def backward(self, dy): ...\n",
        mylib__middle="import abc\nfrom mylib.base import Layer\nclass Middle(Layer):\n    @abc.abstractmethod\n    def name(self): ...\n",
        mylib__round="from mylib.about import Turn\n",
        mylib__about="from mylib.round import Turn\nfrom mylib.about import *\n",
        mylib__a=text,
    )
    assert found(made) == LOOKS[text]


def test_a_base_class_that_is_not_there_is_an_error(search):
    """A typing error in the settings must not switch the search off."""
    with pytest.raises(UsageError, match=r"mylib/base.py defines no 'Layr'; did you mean 'Layer'"):
        search(("mylib.base.Layr",), mylib__base="class Layer: ...\n")


LIBRARY = (
    f"class Norm:\n{BOTH}\nclass Kernel:\n{BOTH}\ndef norm(x):\n    return Norm().forward(x)\n"
)
REGISTERS = {
    "from mylib.a import Norm\n@spec.register\ndef layer(x):\n    return Norm().forward(x)\n": {"Norm"},
    "import mylib.a\n@spec.register(name='n')\ndef layer(x):\n    return mylib.a.Norm()\n": {"Norm"},
    "import mylib.a as m\nspec.register(lambda x: m.norm(x))\n": {"Norm"},
    "from mylib import *\nspec.register(norm)\n": {"Norm"},
    "from mylib.a import norm, Kernel\nfor f in (norm,):\n    spec.register(f)\n": {"Norm"},
    "from mylib.a import Norm\ndef run(x):\n    return Norm()\n@spec.register\ndef f(x):\n    return run(x)\n": {"Norm"},
    "from gradverify import catalog\nfrom mylib.a import Norm, Kernel\ncatalog('bn').register(adapt(Norm))\n": {"Norm"},
    "def f(x):\n    from mylib.a import Kernel\n    return Kernel()\nif True:\n    spec.register(f)\n": {"Kernel"},
    "from mylib.a import Norm\n": set(),
    "from mylib.a import Norm\nNorm()\n": set(),
    "import mylib.a\nspec.register(getattr(mylib.a, 'No' + 'rm'))\n": set(),
}  # fmt: skip


@pytest.mark.parametrize("text", REGISTERS)
def test_what_a_registered_layer_uses_is_registered(search, text):
    """What a spec file registers leads, by names from file to file, to what is verified with it;
    what is only imported is not."""
    made = search(mylib__init="from .a import norm\n", mylib__a=LIBRARY, specs__s=text)
    registered = made.definitions.registered(["specs/s.py"])
    names = {c.name for c in made.candidates(["mylib/a.py"]) if registered.issuperset(c.uses)}
    assert names == {f"mylib.a:{name}" for name in REGISTERS[text]}


def test_a_pair_of_functions_needs_both(search):
    """A spec that uses the forward and not its backward does not verify the pair."""
    made = search(
        mylib__a="def f_forward(x): ...\ndef f_backward(dy): ...\n",
        specs__s="from mylib.a import f_forward\nspec.register(f_forward)\n",
    )
    (candidate,) = made.candidates(["mylib/a.py"])
    assert not made.definitions.registered(["specs/s.py"]).issuperset(candidate.uses)


def test_a_layer_may_register_itself(search):
    """What the file of a module registers at its own definition is registered."""
    made = search(mylib__a="import jax\n@spec.register\n@jax.custom_vjp\ndef f(x): ...\n")
    (candidate,) = made.candidates(["mylib/a.py"])
    assert made.definitions.registered(["mylib/a.py"]).issuperset(candidate.uses)


NAMES = {
    "@s.register\ndef a(x): ...\n": {"a"},
    "@catalog('x').register\ndef a(x): ...\n": {"a"},
    "@s.register(dtypes=('float32',))\ndef a(x): ...\n": {"a"},
    "@s.register(name='b')\n@s.register\ndef a(x): ...\n": {"a", "b"},
    "if True:\n    @s.register\n    def a(x): ...\n": {"a"},
    "@s.register(name=NAME)\ndef a(x): ...\n": None,
    "@s.register(**options)\ndef a(x): ...\n": None,
    "s.register(a)\n": None,
    "for name in names:\n    s.register(name=name)(a)\n": None,
    "@adapt(s.register)\ndef a(x): ...\n": None,
    "x = 1\n": set(),
    "def (": None,
}


@pytest.mark.parametrize("text", NAMES)
def test_the_names_of_layers_are_read_where_the_text_tells_them(tmp_path, text):
    """The names that a file registers are known without running it, or known not to be."""
    (tmp_path / "a.py").write_text(text)
    source = parse(tmp_path, "a.py")
    assert isinstance(source, Source)
    assert layer_names(source) == NAMES[text]
