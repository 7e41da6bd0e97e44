"""Right ways of writing the triplet margin loss; naive_* cancels where points are near.

Where the excess is 0, any subgradient is right.
"""

import math
from functools import partial

import numpy as np

from gradverify import catalog

triplet = catalog("triplet")


@triplet.register
def step_by_step(a, p, q, *, margin, eps):
    N = len(a)
    to_p, to_q = a - p + eps, a - q + eps
    sum_p, sum_q = (to_p**2).sum(axis=1), (to_q**2).sum(axis=1)
    near, far = np.sqrt(sum_p), np.sqrt(sum_q)
    excess = near - far + margin
    hinge = np.maximum(excess, 0)

    def pullback(dloss):
        dhinge = np.ones_like(hinge) * dloss / N
        dexcess = dhinge * (excess > 0)
        dnear, dfar = dexcess, -dexcess
        dsum_p, dsum_q = dnear * 0.5 / np.sqrt(sum_p), dfar * 0.5 / np.sqrt(sum_q)
        dto_p, dto_q = 2 * to_p * dsum_p[:, None], 2 * to_q * dsum_q[:, None]
        return {"a": dto_p + dto_q, "p": -dto_p, "q": -dto_q}

    return hinge.sum() / N, pullback


@triplet.register
def norms_and_directions(a, p, q, *, margin, eps):
    to_p, to_q = a - p + eps, a - q + eps
    near = np.linalg.norm(to_p, axis=1, keepdims=True)
    far = np.linalg.norm(to_q, axis=1, keepdims=True)
    excess = near - far + margin
    active = excess >= 0

    def pullback(dloss):
        g = np.where(active, dloss / len(a), 0)
        toward, away = g * (to_p / near), g * (to_q / far)
        return toward - away, -toward, away

    return np.where(active, excess, 0).mean(), pullback


@triplet.register
def active_rows_only(a, p, q, *, margin, eps):
    to_p, to_q = a - p + eps, a - q + eps
    near, far = np.sqrt((to_p**2).sum(axis=1)), np.sqrt((to_q**2).sum(axis=1))
    rows = np.flatnonzero(near + margin > far)
    loss = (near[rows] - far[rows] + margin).sum() / len(a)

    def pullback(dloss):
        da, dp, dq = (np.zeros_like(v) for v in (a, p, q))
        dp[rows] = -to_p[rows] / near[rows, None] * (dloss / len(a))
        dq[rows] = to_q[rows] / far[rows, None] * (dloss / len(a))
        da -= dp + dq
        return {"a": da, "p": dp, "q": dq}

    return loss, pullback


@triplet.register
def einsum(a, p, q, *, margin, eps):
    to = np.stack([a - p, a - q]) + a.dtype.type(eps)
    distances = np.sqrt(np.einsum("knd,knd->kn", to, to))
    signs = np.array([1, -1], a.dtype)
    excess = np.einsum("k,kn->n", signs, distances) + margin

    def pullback(dloss):
        share = dloss / len(a) * np.heaviside(excess, 0.5).astype(a.dtype)
        dto = np.einsum("k,n,kn,knd->knd", signs, share, 1 / distances, to)
        return {"a": np.einsum("knd->nd", dto), "p": -dto[0], "q": -dto[1]}

    return np.maximum(0, excess).mean(), pullback


@triplet.register
def loop_over_rows(a, p, q, *, margin, eps):
    N = len(a)
    saved, loss = [], 0.0
    for row in zip(a.tolist(), p.tolist(), q.tolist(), strict=True):
        to_p = [u - v + eps for u, v in zip(row[0], row[1], strict=True)]
        to_q = [u - v + eps for u, v in zip(row[0], row[2], strict=True)]
        near, far = math.hypot(*to_p), math.hypot(*to_q)
        if near - far + margin > 0:
            loss += (near - far + margin) / N
            saved.append((np.array(to_p) / near, np.array(to_q) / far))
        else:
            saved.append((np.zeros(len(to_p)), np.zeros(len(to_q))))

    def pullback(dloss):
        toward = np.stack([u for u, _ in saved]) * (float(dloss) / N)
        away = np.stack([v for _, v in saved]) * (float(dloss) / N)
        return [v.astype(a.dtype) for v in (toward - away, -toward, away)]

    return a.dtype.type(loss), pullback


@triplet.register
def naive_distances_from_inner_products(a, p, q, *, margin, eps):
    shifted = a + eps

    def distance(b):
        squares = (shifted**2).sum(axis=1) + (b**2).sum(axis=1) - 2 * (shifted * b).sum(axis=1)
        return np.sqrt(np.maximum(squares, np.finfo(a.dtype).tiny))

    near, far = distance(p), distance(q)
    active = (near - far + margin > 0).astype(a.dtype)

    def pullback(dloss):
        g = active * (dloss / len(a))
        dp = -(g / near)[:, None] * (shifted - p)
        dq = (g / far)[:, None] * (shifted - q)
        return -(dp + dq), dp, dq

    return np.mean(active * (near - far + margin)), pullback


@triplet.register
def relu_by_abs(a, p, q, *, margin, eps):
    """max(e, 0) = (e + |e|)/2, whose slope at 0 is a half."""
    to_p, to_q = (a - p) + eps, (a - q) + eps
    near, far = np.hypot.reduce(to_p, axis=1), np.hypot.reduce(to_q, axis=1)
    excess = (near + margin) - far

    def pullback(dloss):
        slope = 0.5 * (1 + np.sign(excess)) / len(a) * dloss
        dp = -(slope / near)[:, None] * to_p
        dq = (slope / far)[:, None] * to_q
        return {"p": dp, "q": dq, "a": -dp - dq}

    return np.mean(0.5 * (excess + np.abs(excess))), pullback


@triplet.register
def recomputed(a, p, q, *, margin, eps):
    def distance(u, v):
        difference = u - v + eps
        return np.sqrt(np.sum(difference * difference, axis=1, keepdims=True)), difference

    def pullback(dloss):
        (near, to_p), (far, to_q) = distance(a, p), distance(a, q)
        mask = (near - far + margin > 0).astype(a.dtype) * dloss / len(a)
        return {"a": mask * (to_p / near - to_q / far), "p": -mask * to_p / near,
                "q": mask * to_q / far}  # fmt: skip

    return np.clip(distance(a, p)[0] - distance(a, q)[0] + margin, 0, None).mean(), pullback


class Triplet:
    """A distance, made with its gradient, and a hinge on the difference of two."""

    def __init__(self, distance):
        self.distance = distance

    def __call__(self, a, p, q, *, margin, eps):
        near, near_back = self.distance(a, p, eps)
        far, far_back = self.distance(a, q, eps)
        hinge = np.fmax(near - far + margin, 0)
        return np.average(hinge), partial(self.backward, hinge, near_back, far_back)

    def backward(self, hinge, near_back, far_back, dloss):
        g = np.sign(hinge) * (dloss / hinge.size)
        (da, dp), (db, dq) = near_back(g), far_back(-g)
        return da + db, dp, dq


def _euclidean(u, v, eps):
    difference = u - v + eps
    length = np.sqrt(np.einsum("nd,nd->n", difference, difference))

    def back(g):
        du = (g / length)[:, None] * difference
        return du, -du

    return length, back


triplet.register(name="object_with_distance")(Triplet(_euclidean))
