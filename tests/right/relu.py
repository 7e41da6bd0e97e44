"""Right ways of writing relu; at 0 they differ, all within the subgradients."""

import numpy as np

from gradverify import catalog

relu = catalog("relu")


@relu.register
def where(x):
    return np.where(x > 0, x, 0), lambda dy: {"x": np.where(x > 0, dy, 0)}


@relu.register
def mask_product(x):
    mask = (x > 0).astype(x.dtype)
    return x * mask, lambda dy: {"x": mask * dy}


@relu.register
def half_of_x_plus_abs(x):
    return 0.5 * (x + np.abs(x)), lambda dy: {"x": 0.5 * dy * (1 + np.sign(x))}


@relu.register
def boolean_assignment(x):
    y = x.copy()
    y[x <= 0] = 0

    def pullback(dy):
        dx = dy.copy()
        dx[x <= 0] = 0
        return dx

    return y, pullback


@relu.register
def from_the_output(x):
    y = np.clip(x, 0, None)
    active = y > 0
    return y, lambda dy: (dy * active,)


@relu.register
def right_derivative_at_zero(x):
    return np.fmax(x, np.zeros_like(x)), lambda dy: {"x": np.multiply(dy, x >= 0)}


@relu.register
def heaviside(x):
    step = np.heaviside(x, np.full_like(x, 0.5))
    return step * x, lambda dy: {"x": step * dy}


@relu.register
def flat_indices(x):
    alive = np.flatnonzero(x > 0)
    y = np.zeros(x.shape, x.dtype)
    y.flat[alive] = x.reshape(-1)[alive]

    def pullback(dy):
        dx = np.zeros(x.shape, x.dtype)
        dx.flat[alive] = dy.reshape(-1)[alive]
        return {"x": dx}

    return y, pullback


class ReLU:
    """A forward and a backward, one object a call, in plain Python."""

    def __init__(self, x):
        self.alive = [[v > 0 for v in row] for row in x]

    def __call__(self, v):
        out = np.zeros_like(v)
        for n, row in enumerate(self.alive):
            for c, alive in enumerate(row):
                if alive:
                    out[n, c] = v[n, c]
        return out


@relu.register
def scalar_loops(x):
    op = ReLU(x)
    return op(x), op
