"""The specs of the catalogue and a recurrence, with their oracles: what printing is tested on."""

from functools import cache

from gradverify import Input, Output, Param, Spec
from gradverify.calculus.compile import Oracle
from gradverify.loading import catalogue_folder, execute
from gradverify.spec import REGISTERED


def _catalogue():
    before = dict(REGISTERED)
    modules = [execute(path) for path in sorted(catalogue_folder().glob("*.py"))]
    REGISTERED.clear()
    REGISTERED.update(before)
    return {v.name: v for m in modules for v in vars(m).values() if isinstance(v, Spec)}


STEPS = """
    h[t,n,k] = tanh(pre[t,n,k])
    pre[t,n,k] = sum[d](x[t,n,d]*w[k,d]) + sum[m](h[t-1,n,m]*u[k,m])
    h[-1,n,k] = h0[n,k]
"""
RNN = Spec("plain_rnn", x=Input("T N D"), h0=Input("N K"), u=Param("K K"), w=Param("K D"),
           h=Output("T N K"), definition=STEPS)  # fmt: skip
CATALOGUE = _catalogue()
SPECS = {**CATALOGUE, RNN.name: RNN}


@cache
def oracle(name):
    return Oracle(SPECS[name].program, SPECS[name].differentiable)
