"""Right ways of writing three fully connected layers with relu between them."""

from functools import partial

import numpy as np

from gradverify import catalog

mlp = catalog("mlp")


@mlp.register
def step_by_step(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    z1 = np.dot(x, fc1_w.T) + fc1_b
    h1 = np.where(z1 > 0, z1, 0)
    z2 = np.dot(h1, fc2_w.T) + fc2_b
    h2 = np.where(z2 > 0, z2, 0)
    y = np.dot(h2, fc3_w.T) + fc3_b

    def pullback(dy):
        dfc3_w, dfc3_b, dh2 = np.dot(dy.T, h2), np.sum(dy, axis=0), np.dot(dy, fc3_w)
        dz2 = dh2.copy()
        dz2[z2 <= 0] = 0
        dfc2_w, dfc2_b, dh1 = np.dot(dz2.T, h1), np.sum(dz2, axis=0), np.dot(dz2, fc2_w)
        dz1 = dh1.copy()
        dz1[z1 <= 0] = 0
        dfc1_w, dfc1_b, dx = np.dot(dz1.T, x), np.sum(dz1, axis=0), np.dot(dz1, fc1_w)
        return dx, dfc1_w, dfc1_b, dfc2_w, dfc2_b, dfc3_w, dfc3_b

    return y, pullback


@mlp.register
def loop_over_layers(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    weights, biases = (fc1_w, fc2_w, fc3_w), (fc1_b, fc2_b, fc3_b)
    inputs = [x]
    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        z = inputs[-1] @ w.T + b
        inputs.append(np.maximum(z, 0) if k < 2 else z)

    def pullback(dy):
        grads, g = {}, dy
        for k in (2, 1, 0):
            grads[f"fc{k + 1}_w"] = g.T @ inputs[k]
            grads[f"fc{k + 1}_b"] = g.sum(axis=0)
            g = g @ weights[k]
            if k > 0:
                g = g * (inputs[k] > 0)
        return {"x": g, **grads}

    return inputs[-1], pullback


@mlp.register
def einsum(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    z1 = np.einsum("nd,hd->nh", x, fc1_w) + fc1_b
    on1 = (z1 >= 0).astype(x.dtype)
    z2 = np.einsum("nh,nh,kh->nk", z1, on1, fc2_w) + fc2_b
    on2 = (z2 >= 0).astype(x.dtype)
    y = np.einsum("nk,nk,ok->no", z2, on2, fc3_w) + fc3_b

    def pullback(dy):
        dz2 = np.einsum("no,ok,nk->nk", dy, fc3_w, on2)
        dz1 = np.einsum("nk,kh,nh->nh", dz2, fc2_w, on1)
        return {
            "x": np.einsum("nh,hd->nd", dz1, fc1_w),
            "fc1_w": np.einsum("nh,nd->hd", dz1, x),
            "fc1_b": np.einsum("nh->h", dz1),
            "fc2_w": np.einsum("nk,nh,nh->kh", dz2, z1, on1),
            "fc2_b": np.einsum("nk->k", dz2),
            "fc3_w": np.einsum("no,nk,nk->ok", dy, z2, on2),
            "fc3_b": np.einsum("no->o", dy),
        }

    return y, pullback


@mlp.register
def bias_as_a_column(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    def with_ones(a):
        return np.hstack([a, np.ones_like(a[:, :1])])

    weights = [np.hstack([w, b[:, None]]) for w, b in
               ((fc1_w, fc1_b), (fc2_w, fc2_b), (fc3_w, fc3_b))]  # fmt: skip
    a0 = with_ones(x)
    a1 = with_ones(np.clip(a0 @ weights[0].T, 0, None))
    a2 = with_ones(np.clip(a1 @ weights[1].T, 0, None))

    def pullback(dy):
        dz2 = np.where(a2[:, :-1] > 0, (dy @ weights[2])[:, :-1], 0)
        dz1 = np.where(a1[:, :-1] > 0, (dz2 @ weights[1])[:, :-1], 0)
        dws = dz1.T @ a0, dz2.T @ a1, dy.T @ a2
        flat = [part for dw in dws for part in (dw[:, :-1].copy(), dw[:, -1].copy())]
        return ((dz1 @ weights[0])[:, :-1].copy(), *flat)

    return a2 @ weights[2].T, pullback


@mlp.register
def sample_by_sample(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    """Each sample has a Jacobian: where relu is on, the network is a product of matrices."""

    def hidden(row):
        h1 = np.maximum(fc1_w @ row + fc1_b, 0)
        return h1, np.maximum(fc2_w @ h1 + fc2_b, 0)

    y = np.stack([fc3_w @ hidden(row)[1] + fc3_b for row in x])

    def pullback(dy):
        given = fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b
        dx, grads = np.empty_like(x), [np.zeros_like(v) for v in given]
        for n, g in enumerate(dy):
            h1, h2 = hidden(x[n])
            to_h1 = (fc3_w * (h2 > 0)) @ fc2_w * (h1 > 0)  # of the output, to the first relu
            g1, g2 = g @ to_h1, g @ (fc3_w * (h2 > 0))
            dx[n] = g @ (to_h1 @ fc1_w)
            pairs = (g1, x[n]), (g2, h1), (g, h2)
            parts = [p for d, v in pairs for p in (np.outer(d, v), d)]
            for total, part in zip(grads, parts, strict=True):
                total += part
        return (dx, *grads)

    return y, pullback


@mlp.register
def in_place(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    h1 = np.matmul(x, fc1_w.T)
    h1 += fc1_b
    np.maximum(h1, 0, out=h1)
    h2 = np.matmul(h1, fc2_w.T)
    h2 += fc2_b
    np.maximum(h2, 0, out=h2)
    y = np.matmul(h2, fc3_w.T)
    y += fc3_b

    def pullback(dy):
        g2 = dy @ fc3_w
        g2 *= np.sign(h2)
        g1 = g2 @ fc2_w
        g1 *= np.sign(h1)
        ones = np.ones(len(x), x.dtype)
        return [g1 @ fc1_w, (x.T @ g1).T, ones @ g1, (h1.T @ g2).T, ones @ g2, (h2.T @ dy).T,
                ones @ dy]  # fmt: skip

    return y, pullback


class Linear:
    """A module: its forward keeps its input, its backward returns all its gradients."""

    def __init__(self, w, b):
        self.w, self.b = w, b

    def forward(self, x):
        self.x = x
        return x @ self.w.T + self.b

    def backward(self, dy):
        self.dw, self.db = dy.T @ self.x, dy.sum(axis=0)
        return dy @ self.w


class Relu:
    """A module without parameters."""

    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, dy):
        return dy * self.mask


@mlp.register
def sequence_of_modules(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    modules = [Linear(fc1_w, fc1_b), Relu(), Linear(fc2_w, fc2_b), Relu(), Linear(fc3_w, fc3_b)]
    y = x
    for module in modules:
        y = module.forward(y)

    def pullback(dy):
        for module in reversed(modules):
            dy = module.backward(dy)
        parameters = [p for m in modules[::2] for p in (m.dw, m.db)]
        return (dy, *parameters)

    return y, pullback


def _linear(w, b, x):
    return np.tensordot(x, w, axes=(1, 1)) + b, lambda dy: (
        np.tensordot(dy, w, axes=(1, 0)),
        (np.tensordot(dy, x, axes=(0, 0)), np.add.reduce(dy)),
    )


def _relu(x):
    return 0.5 * (x + np.abs(x)), lambda dy: (dy * np.heaviside(x, 0.5).astype(x.dtype), ())


@mlp.register
def composed_pullbacks(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
    steps = [partial(_linear, fc1_w, fc1_b), _relu, partial(_linear, fc2_w, fc2_b), _relu,
             partial(_linear, fc3_w, fc3_b)]  # fmt: skip
    backs, y = [], x
    for step in steps:
        y, back = step(y)
        backs.append(back)

    def pullback(dy):
        collected = ()
        for back in reversed(backs):
            dy, found = back(dy)
            collected = (*found, *collected)
        return (dy, *collected)

    return y, pullback
