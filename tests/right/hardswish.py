"""Right ways of writing hard swish; at -3 and 3 any slope between the two sides is right."""

import numpy as np

from gradverify import catalog

hardswish = catalog("hardswish")


@hardswish.register
def hardswish_three_pieces(x):
    y = np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6))

    def pullback(dy):
        return {"x": np.where(x <= -3, 0, np.where(x >= 3, dy, dy * (2 * x + 3) / 6))}

    return y, pullback


@hardswish.register
def hardswish_product_rule(x):
    gate = np.minimum(np.maximum(x + 3, 0), 6)
    inside = (gate > 0) & (gate < 6)
    return x * gate / 6, lambda dy: dy * gate / 6 + dy * x * inside / 6


@hardswish.register
def hardswish_select(x):
    sides = [x < -3, x > 3]
    y = np.select(sides, [np.zeros_like(x), x], x * x / 6 + x / 2)

    def pullback(dy):
        return (dy * np.select(sides, [np.zeros_like(x), np.ones_like(x)], x / 3 + 0.5),)

    return y, pullback


@hardswish.register
def hardswish_staged(x):
    """Each line of the forward has its line in the backward, in reverse."""
    shifted = x + 3
    low = shifted * (shifted > 0)
    relu6 = low.copy()
    relu6[relu6 > 6] = 6
    hard = relu6 * x.dtype.type(1 / 6)

    def pullback(dy):
        dhard, dx = dy * x, dy * hard
        drelu6 = dhard / 6
        dlow = drelu6.copy()
        dlow[low > 6] = 0
        dx += dlow * (shifted > 0)
        return {"x": dx}

    return x * hard, pullback


@hardswish.register
def hardswish_masked_assignment(x):
    middle, up = np.abs(x) < 3, x >= 3
    y = np.zeros_like(x)
    y[up] = x[up]
    y[middle] = x[middle] * (x[middle] + 3) / 6

    def pullback(dy):
        dx = np.zeros(x.shape, x.dtype)
        dx[up] = dy[up]
        dx[middle] = dy[middle] * (x[middle] / 3 + 1 / 2)
        return dx

    return y, pullback


@hardswish.register
def hardswish_scalar_loop(x):
    def value(v):
        return v * min(max(v + 3.0, 0.0), 6.0) / 6.0

    def slope(v):
        return 0.0 if v < -3 else 1.0 if v > 3 else (2.0 * v + 3.0) / 6.0

    y = np.array([[value(v) for v in row] for row in x.tolist()], x.dtype)
    slopes = np.array([[slope(v) for v in row] for row in x.tolist()], x.dtype)
    return y, lambda dy: {"x": slopes * dy}


# Two rectifiers: what the second takes back beyond 3 is what the first gave too much.
@hardswish.register
def hardswish_two_rectifiers(x):
    hard = (np.maximum(x + 3, 0) - np.maximum(x - 3, 0)) / 6
    steps = np.heaviside(x + 3, 0.5) - np.heaviside(x - 3, 0.5)
    return x * hard, lambda dy: {"x": (hard + x * steps / 6) * dy}
