"""Layers with a forward mode and a double backward, written by hand in NumPy as a person would.

Each is (spec, forward, jvp, double_vjp) in LAYERS, by name.
"""

import numpy as np

from gradverify import Buffer, Constant, Input, Output, Param, Spec, catalog

LINEAR = Spec(
    "linear_map", x=Input("N K"), w=Param("K M"), b=Param("M"), y=Output("N M"),
    definition="y[n,m] = sum[k](x[n,k]*w[k,m]) + b[m]",
)  # fmt: skip


def linear(x, w, b):
    return x @ w + b, lambda dy: {"x": dy @ w.T, "w": x.T @ dy, "b": dy.sum(0)}


def linear_jvp(tensors, v, constants):
    return v["x"] @ tensors["w"] + tensors["x"] @ v["w"] + v["b"]


def linear_double(tensors, cotangents, s, constants):
    dy = cotangents["y"]
    first = {"x": dy @ s["w"].T, "w": s["x"].T @ dy, "b": np.zeros_like(tensors["b"])}
    return first, {"y": linear_jvp(tensors, s, constants)}


BATCH_NORM = catalog("batch_norm")


def _normalised(x, eps):
    c = x - x.mean(0)
    s = np.sqrt((c * c).mean(0) + eps)
    return c / s, s


def batch_norm(x, gamma, beta, *, eps):
    h, s = _normalised(x, eps)

    def pullback(dy):
        dx = gamma * (dy - dy.mean(0) - h * (dy * h).mean(0)) / s
        return {"x": dx, "gamma": (dy * h).sum(0), "beta": dy.sum(0)}

    return gamma * h + beta, pullback


def batch_norm_jvp(tensors, v, constants):
    h, s = _normalised(tensors["x"], constants["eps"])
    c = v["x"] - v["x"].mean(0)
    dh = (c - h * (c * h).mean(0)) / s
    return {"y": tensors["gamma"] * dh + h * v["gamma"] + v["beta"]}


def batch_norm_double(tensors, cotangents, seeds, constants):
    gamma, dy = tensors["gamma"], cotangents["y"]
    h, s = _normalised(tensors["x"], constants["eps"])
    c = seeds["x"] - seeds["x"].mean(0)
    p, q = (c * h).mean(0), (dy * h).mean(0)
    inner = (c * (dy - dy.mean(0))).sum(0) - len(h) * p * q  # <seeds, dx> is gamma*inner/s
    to_h = seeds["gamma"] * dy - gamma * (c * q + dy * p) / s
    to_s = -gamma * inner / s**2 - (to_h * h).sum(0) / s
    to_c = to_h / s + to_s * h / len(h)
    first = {"x": to_c - to_c.mean(0), "gamma": inner / s, "beta": np.zeros_like(gamma)}
    return first, batch_norm_jvp(tensors, seeds, constants)


SOFTMAX = catalog("softmax")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return y, lambda dy: {"x": y * (dy - (y * dy).sum(-1, keepdims=True))}


def softmax_jvp(tensors, v, constants):
    y, v = softmax(tensors["x"])[0], v["x"]
    return y * (v - (y * v).sum(-1, keepdims=True))


def softmax_double(tensors, cotangents, seeds, constants):
    y, dy, v = softmax(tensors["x"])[0], cotangents["y"], seeds["x"]
    t, u = ((y * a).sum(-1, keepdims=True) for a in (dy, v))
    to_y = (v - u) * dy - v * t
    return y * (to_y - (y * to_y).sum(-1, keepdims=True)), y * (v - u)


TANH = Spec("tanh_of", x=Input("N C"), y=Output("N C"), definition="y[n,c] = tanh(x[n,c])")


def tanh(x):
    y = np.tanh(x)
    return y, lambda dy: {"x": dy * (1 - y) * (1 + y)}


def tanh_jvp(tensors, v, constants):
    y = np.tanh(tensors["x"])
    return (v["x"] * (1 - y) * (1 + y),)


def tanh_double(tensors, cotangents, seeds, constants):
    y, slope = np.tanh(tensors["x"]), seeds["x"] / np.cosh(tensors["x"]) ** 2
    return (-2 * y * slope * cotangents["y"],), (slope,)


# Two outputs and a constant.
TWO = Spec(
    "product_and_cube", a=Input("N"), b=Param("N"), k=Constant(0.5, 3.0), y=Output("N"),
    z=Output("N"), definition="""
        y[n] = a[n]*b[n]
        z[n] = k*a[n]*b[n]**2
    """,
)  # fmt: skip


def two(a, b, *, k):
    def pullback(dy, dz):
        return b * dy + k * b * b * dz, a * dy + 2 * k * a * b * dz

    return (a * b, k * a * b * b), pullback


def two_jvp(tensors, v, constants):
    a, b, k = tensors["a"], tensors["b"], constants["k"]
    dy = v["a"] * b + a * v["b"]
    return dy, k * b * (dy + a * v["b"])


def two_double(tensors, cotangents, seeds, constants):
    a, b, k = tensors["a"], tensors["b"], constants["k"]
    mixed = cotangents["y"] + 2 * k * b * cotangents["z"]
    own = 2 * k * a * seeds["b"] * cotangents["z"]
    first = {"a": seeds["b"] * mixed, "b": seeds["a"] * mixed + own}
    return first, two_jvp(tensors, seeds, constants)


# Whole numbers are among what is given.
EMBEDDING = Spec(
    "lookup", ids=Input("N", dtype=int, range="0..V-1"), w=Param("V D"), y=Output("N D"),
    definition="y[n,d] = w[ids[n],d]**2",
)  # fmt: skip


def _scattered(ids, rows, shape):
    total = np.zeros(shape, rows.dtype)
    np.add.at(total, ids, rows)
    return total


def embedding(ids, w):
    return w[ids] ** 2, lambda dy: {"w": _scattered(ids, 2 * w[ids] * dy, w.shape)}


def embedding_jvp(tensors, v, constants):
    ids = tensors["ids"]
    return 2 * tensors["w"][ids] * v["w"][ids]


def embedding_double(tensors, cotangents, seeds, constants):
    ids, w = tensors["ids"], tensors["w"]
    first = {"ids": None, "w": _scattered(ids, 2 * seeds["w"][ids] * cotangents["y"], w.shape)}
    return first, embedding_jvp(tensors, seeds, constants)


# A buffer, and an output that is its next value and has no tangent.
CENTRED = Spec(
    "centred", x=Input("N C"), w=Param("C"), kept=Buffer("C", update="new"),
    momentum=Constant(0.1, 0.3), y=Output("N C"), new=Output("C"), definition="""
        mu[c] = mean[n](x[n,c])
        y[n,c] = w[c]*(x[n,c] - mu[c])
        new[c] = (1 - momentum)*kept[c] + momentum*mu[c]
    """,
)  # fmt: skip


def centred(x, w, kept, *, momentum):
    mu = x.mean(0)

    def pullback(dy):
        return {"x": w * (dy - dy.mean(0)), "w": (dy * (x - mu)).sum(0)}

    return (w * (x - mu), (1 - momentum) * kept + momentum * mu), pullback


def centred_jvp(tensors, v, constants):
    x = tensors["x"]
    return {"y": v["w"] * (x - x.mean(0)) + tensors["w"] * (v["x"] - v["x"].mean(0))}


def centred_double(tensors, cotangents, seeds, constants):
    dy = cotangents["y"]
    c = dy - dy.mean(0)
    first = {"x": seeds["w"] * c, "w": (seeds["x"] * c).sum(0)}
    return first, centred_jvp(tensors, seeds, constants)


LAYERS = {
    "linear": (LINEAR, linear, linear_jvp, linear_double),
    "batch_norm": (BATCH_NORM, batch_norm, batch_norm_jvp, batch_norm_double),
    "softmax": (SOFTMAX, softmax, softmax_jvp, softmax_double),
    "tanh": (TANH, tanh, tanh_jvp, tanh_double),
    "two": (TWO, two, two_jvp, two_double),
    "embedding": (EMBEDDING, embedding, embedding_jvp, embedding_double),
    "centred": (CENTRED, centred, centred_jvp, centred_double),
}
