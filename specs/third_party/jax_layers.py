"""Layers in plain JAX, as users write them, against the definitions of the catalogue."""

import jax
import jax.numpy as jnp
from jax import lax

from gradverify import Constant, Input, Output, Spec, catalog
from gradverify.adapters import jax_function


def linear(params, x):
    return x @ params["w"].T + params["b"]


catalog("linear").register(
    jax_function(linear, tree={"params": {"w": "w", "b": "b"}}), name="jax_linear"
)


@catalog("mlp").register
@jax_function
def jax_mlp(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    h = jax.nn.relu(x @ fc1_w.T + fc1_b)
    h = jax.nn.relu(h @ fc2_w.T + fc2_b)
    return h @ fc3_w.T + fc3_b


@catalog("batch_norm").register
@jax_function
def jax_batch_norm(x, gamma, beta, *, eps):
    xhat = (x - x.mean(axis=0)) * lax.rsqrt(x.var(axis=0) + eps)
    return gamma * xhat + beta


@catalog("layer_norm").register
@jax_function
def jax_layer_norm(x, gamma, beta, *, eps):
    return gamma * jax.nn.standardize(x, epsilon=eps, algorithm="stable") + beta


@catalog("group_norm").register
@jax_function
def jax_group_norm(x, gamma, beta, *, G, eps):
    N, C, H, W = x.shape
    groups = x.reshape(N, G, C // G, H, W)
    mean = groups.mean(axis=(2, 3, 4), keepdims=True)
    var = groups.var(axis=(2, 3, 4), keepdims=True)
    xhat = ((groups - mean) / jnp.sqrt(var + eps)).reshape(x.shape)
    return gamma[:, None, None] * xhat + beta[:, None, None]


@catalog("conv2d").register
@jax_function
def jax_conv2d(x, w, b, *, S, P, D):
    y = lax.conv_general_dilated(x, w, (S, S), [(P, P), (P, P)], rhs_dilation=(D, D))
    return y + b[:, None, None]


@catalog("max_pool2d").register
@jax_function
def jax_max_pool2d(x, *, K, S):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, K, K), (1, 1, S, S), "VALID")


@catalog("attention").register
@jax_function
def jax_attention(q, k, v):
    p = jax.nn.softmax(q @ k.mT / jnp.sqrt(q.shape[-1]).astype(q.dtype))
    return p @ v


# Its softmax is in float32 whatever the input is (jax 0.10.2), and not accurate in float64.
dot_product_attention = Spec(
    "dot_product_attention",
    query=Input("B T G D"),
    key=Input("B S G D"),
    value=Input("B S G D"),
    is_causal=Constant(False, True),
    y=Output("B T G D"),
    definition="""
        a[b,g,t,s] = sum[d](query[b,t,g,d]*key[b,s,g,d]) / sqrt(D)
        z[b,g,t,s] = where(not is_causal or s <= t, a[b,g,t,s], -inf)
        m[b,g,t]   = stop_gradient(max[s](z[b,g,t,s]))
        u[b,g,t,s] = exp(z[b,g,t,s] - m[b,g,t])
        p[b,g,t,s] = u[b,g,t,s] / sum[j](u[b,g,t,j])
        y[b,t,g,d] = sum[s](p[b,g,t,s]*value[b,s,g,d])
    """,
)
dot_product_attention.register(
    jax_function(jax.nn.dot_product_attention), name="jax_dot_product_attention"
)


@catalog("lstm_cell").register
@jax_function
def jax_lstm_cell(x, h, c, wx, wh, b):
    i, f, g, o = jnp.split(x @ wx.T + h @ wh.T + b, 4, axis=1)
    c_next = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c_next), c_next


@catalog("rnn").register
@jax_function
def jax_rnn(x, h0, wx, wh, b):
    def step(h, now):
        h = jnp.tanh(now @ wx.T + h @ wh.T + b)
        return h, h

    return lax.scan(step, h0, x)[1]


@catalog("embedding").register
@jax_function
def jax_embedding(ids, w):
    return w[ids]


@catalog("softmax_cross_entropy").register
@jax_function
def jax_cross_entropy(x, t):
    logp = jax.nn.log_softmax(x)
    return -jnp.mean(jnp.take_along_axis(logp, t[:, None], axis=1))


@catalog("bce_with_logits").register
@jax_function
def jax_bce_with_logits(x, t):
    return -jnp.mean(t * jax.nn.log_sigmoid(x) + (1 - t) * jax.nn.log_sigmoid(-x))
