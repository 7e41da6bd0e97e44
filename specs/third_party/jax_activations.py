"""The activations of jax.nn (github.com/jax-ml/jax), against the definitions of the catalogue."""

import jax
import jax.numpy as jnp

from gradverify import Constant, Input, Output, Spec, catalog
from gradverify.adapters import jax_function

for name in ("relu", "elu", "selu", "silu", "mish", "sigmoid", "tanh"):
    catalog(name).register(jax_function(getattr(jax.nn, name)), name=f"jax_{name}")

catalog("gelu").register(jax_function(jax.nn.gelu), name="jax_gelu_tanh")  # its default
catalog("hardswish").register(jax_function(jax.nn.hard_swish), name="jax_hard_swish")
catalog("softmax").register(jax_function(jax.nn.softmax), name="jax_softmax")
catalog("log_softmax").register(jax_function(jax.nn.log_softmax), name="jax_log_softmax")


@catalog("leaky_relu").register
@jax_function
def jax_leaky_relu(x, *, slope):
    return jax.nn.leaky_relu(x, negative_slope=slope)


@catalog("softplus").register
@jax_function
def jax_softplus(x, *, beta):
    return jax.nn.softplus(beta * x) / beta


@catalog("prelu").register
@jax_function
def jax_prelu(x, a):
    return jnp.where(x >= 0, x, a * x)


def elementwise(name, formula, **constants):
    """Return the spec of a function of each element alone."""
    definition = f"y[n,c] = {formula}"
    return Spec(name, x=Input("N C"), y=Output("N C"), definition=definition, **constants)


gelu_exact = elementwise("gelu_exact", "0.5*x[n,c]*erfc(-x[n,c]/sqrt(2))")


@gelu_exact.register
@jax_function
def jax_gelu_exact(x):
    return jax.nn.gelu(x, approximate=False)


log_sigmoid = elementwise("log_sigmoid", "-softplus(-x[n,c])")
log_sigmoid.register(jax_function(jax.nn.log_sigmoid), name="jax_log_sigmoid")

soft_sign = elementwise("soft_sign", "x[n,c]/(1 + abs(x[n,c]))")
soft_sign.register(jax_function(jax.nn.soft_sign), name="jax_soft_sign")

relu6 = elementwise("relu6", "min(max(x[n,c], 0), 6)")
relu6.register(jax_function(jax.nn.relu6), name="jax_relu6")

hard_tanh = elementwise("hard_tanh", "min(max(x[n,c], -1), 1)")
hard_tanh.register(jax_function(jax.nn.hard_tanh), name="jax_hard_tanh")

hard_sigmoid = elementwise("hard_sigmoid", "min(max(x[n,c] + 3, 0), 6)/6")
hard_sigmoid.register(jax_function(jax.nn.hard_sigmoid), name="jax_hard_sigmoid")

celu = elementwise(
    "celu",
    "max(x[n,c], 0) + alpha*expm1(min(x[n,c], 0)/alpha)",
    alpha=Constant(1.0, 0.3),
)
celu.register(jax_function(jax.nn.celu), name="jax_celu")

squareplus = elementwise("squareplus", "(x[n,c] + sqrt(x[n,c]**2 + b))/2", b=Constant(4.0, 0.5))
squareplus.register(jax_function(jax.nn.squareplus), name="jax_squareplus")

sparse_plus = elementwise(
    "sparse_plus", "where(x[n,c] <= -1, 0, where(x[n,c] >= 1, x[n,c], (x[n,c] + 1)**2/4))"
)
sparse_plus.register(jax_function(jax.nn.sparse_plus), name="jax_sparse_plus")

gated = Spec(
    "gated_linear_unit",
    x=Input("N 2*C"),
    y=Output("N C"),
    ranges={"c": "C"},
    definition="y[n,c] = x[n,c]*sigmoid(x[n,c+C])",
)
gated.register(jax_function(jax.nn.glu), name="jax_glu")

logsumexp = Spec(
    "logsumexp", x=Input("N C"), y=Output("N"), definition="y[n] = logsumexp[c](x[n,c])"
)


@logsumexp.register
@jax_function
def jax_logsumexp(x):
    return jax.nn.logsumexp(x, axis=1)
