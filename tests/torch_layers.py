"""The catalogue's forwards in torch, and what autograd makes of a forward: an independent word.

Only what torch ships is used where it ships the layer, so that nothing is written twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gradverify.calculus.compile import Oracle
from gradverify.calculus.exact import Exact, evaluate_exactly
from gradverify.calculus.point import Point
from gradverify.loading import catalogue_folder, load
from gradverify.numerics.allowance import Allowance, reference
from gradverify.spec import Spec

SPECS = {
    x.spec.name: x.spec for path in sorted(catalogue_folder().glob("*.py")) for x in load(path)
}


@cache
def oracle(spec: Spec) -> Oracle:
    return Oracle(spec.program, spec.differentiable)


def forwards() -> dict[str, Callable[..., Any]]:
    """Return, by spec name, functions of the spec's tensors and constants by name."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - as everyone calls it

    torch.set_num_threads(1)  # the tests run in as many processes as there are cores

    def linear_batch_norm(x, w, b, gamma, beta, *, eps):
        return F.batch_norm(F.linear(x, w, b), None, None, gamma, beta, training=True, eps=eps)

    def batch_norm(x, gamma, beta, *, eps):
        return F.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)

    def batch_norm_running(x, gamma, beta, running_mean, running_var, *, train, momentum, eps):
        stats = running_mean.clone(), running_var.clone()
        y = F.batch_norm(x, *stats, gamma, beta, train, momentum, eps)
        return y, *stats

    def attention(q, k, v, *, visible=None):
        # Not scaled_dot_product_attention: its CPU kernel cannot be differentiated twice.
        z = q @ k.mT / q.shape[2] ** 0.5
        if visible is not None:
            z = z.masked_fill(~visible, -torch.inf)
        return z.softmax(-1) @ v

    def causal_attention(q, k, v):
        T = q.shape[1]
        return attention(q, k, v, visible=torch.ones(T, T, dtype=torch.bool).tril())

    def cosine_similarity(x, z, *, eps):
        # Not F.cosine_similarity: below eps its gradient is not that of its own forward.
        return (F.normalize(x, dim=1, eps=eps) * F.normalize(z, dim=1, eps=eps)).sum(1)

    def lstm_cell(x, h, c, wx, wh, b):
        return torch.lstm_cell(x, (h, c), wx, wh, b, torch.zeros_like(b))

    def contrastive(a, b, t, *, margin):
        distance = (a - b).norm(dim=1)
        return torch.where(t == 0, distance**2, F.relu(margin - distance) ** 2).mean() / 2

    def focal_loss(x, t, *, gamma, alpha):
        p, hot = x.sigmoid(), t.to(x.dtype)
        surprise = F.binary_cross_entropy_with_logits(x, hot, reduction="none")
        weight = torch.where(t == 1, alpha * (1 - p) ** gamma, (1 - alpha) * p**gamma)
        return (weight * surprise).mean()

    def geglu(x, w, b, v, c):
        return F.gelu(F.linear(x, w, b)) * F.linear(x, v, c)

    def glu(x, w, b, v, c):
        return F.glu(torch.cat([F.linear(x, v, c), F.linear(x, w, b)], dim=1))

    def highway(x, wh, bh, wt, bt):
        return torch.lerp(x, F.linear(x, wh, bh).tanh(), F.linear(x, wt, bt).sigmoid())

    def hinge(x, t, *, margin):
        # Not multi_margin_loss: it cannot be differentiated twice.
        excess = F.relu(margin - x.gather(1, t[:, None]) + x)
        return excess.scatter(1, t[:, None], 0).mean()

    def maxout(x, w, b):
        return (torch.einsum("nd,kmd->nkm", x, w) + b).amax(2)

    def triplet(a, p, q, *, margin, eps):
        return F.triplet_margin_loss(a, p, q, margin=margin, eps=eps)

    def unrolled(cell, x, h0, wx, wh, bx, bh):
        states = [h0]
        for x_t in x:
            states.append(cell(x_t, states[-1], wx, wh, bx, bh))
        return torch.stack(states[1:])

    def gru(x, h0, wx, wh, bx, bh):
        return unrolled(torch.gru_cell, x, h0, wx, wh, bx, bh)

    def rnn(x, h0, wx, wh, b):
        return unrolled(torch.rnn_tanh_cell, x, h0, wx, wh, b, torch.zeros_like(b))

    def local_response_norm(x, *, K, alpha, beta, bias):
        return F.local_response_norm(x, K, K * alpha, beta, bias)  # torch averages, the paper adds

    def rotary_embedding(x, *, base):
        T, D = x.shape[1], x.shape[2] // 2
        steps = base ** (-torch.arange(D, dtype=torch.float64) / D)
        angle = torch.outer(torch.arange(T, dtype=torch.float64), steps)
        turned = torch.view_as_complex(x.unflatten(2, (D, 2))) * torch.exp(1j * angle)
        return torch.view_as_real(turned).flatten(2)

    def squeeze_excite(x, w1, b1, w2, b2):
        s = F.linear(F.relu(F.linear(x.mean((2, 3)), w1, b1)), w2, b2).sigmoid()
        return x * s[:, :, None, None]

    def weight_norm(x, v, g, b):
        return F.linear(x, v * (g / v.norm(dim=1))[:, None], b)

    def lstm(x, h0, c0, cell_wx, cell_wh, cell_b):
        h, c, states = h0, c0, []
        for step in x:
            h, c = lstm_cell(step, h, c, cell_wx, cell_wh, cell_b)
            states.append((h, c))
        return tuple(map(torch.stack, zip(*states, strict=True)))

    def mlp(x, fc1_w, fc1_b, fc2_w, fc2_b, fc3_w, fc3_b):
        h = F.relu(F.linear(F.relu(F.linear(x, fc1_w, fc1_b)), fc2_w, fc2_b))
        return F.linear(h, fc3_w, fc3_b)

    def residual_block(x, norm_gamma, norm_beta, fc1_w, fc1_b, fc2_w, fc2_b, *, norm_eps):
        u = F.layer_norm(x, x.shape[1:], norm_gamma, norm_beta, norm_eps)
        return x + F.linear(F.relu(F.linear(u, fc1_w, fc1_b)), fc2_w, fc2_b)

    def multi_head_attention(x, *, G, **p):
        heads = [
            torch.stack(F.linear(x, p[f"{k}_w"], p[f"{k}_b"]).chunk(G, -1))
            for k in ("query", "key", "value")
        ]
        q, k, v = (h.flatten(0, 1) for h in heads)
        joined = torch.cat(attention(q, k, v).chunk(G), -1)
        return F.linear(joined, p["out_w"], p["out_b"])

    def transformer_block(x, *, G, eps, **p):
        def norm(x, k):
            return F.layer_norm(x, x.shape[2:], p[f"{k}_gamma"], p[f"{k}_beta"], eps)

        inside = {k.removeprefix("attn_"): v for k, v in p.items() if k.startswith("attn_")}
        r = x + multi_head_attention(norm(x, "norm1"), G=G, **inside)
        h = F.linear(norm(r, "norm2"), p["fc1_w"], p["fc1_b"])
        return r + F.linear(F.gelu(h, approximate="tanh"), p["fc2_w"], p["fc2_b"])

    return {
        "attention": attention,
        "avg_pool2d": lambda x, *, K, S: F.avg_pool2d(x, K, S),
        "batch_norm": batch_norm,
        "batch_norm_2d": batch_norm,
        "batch_norm_running": batch_norm_running,
        "bce_with_logits": lambda x, t: F.binary_cross_entropy_with_logits(x, t),
        "bilinear": lambda x, z, w, b: F.bilinear(x, z, w, b),
        "causal_attention": causal_attention,
        "channel_shuffle": lambda x, *, G: F.channel_shuffle(x, G),
        "contrastive": contrastive,
        "conv1d": lambda x, w, b, *, S, P, D: F.conv1d(x, w, b, S, P, D),
        "conv2d": lambda x, w, b, *, S, P, D: F.conv2d(x, w, b, S, P, D),
        "cosine_similarity": cosine_similarity,
        "depthwise_conv2d": lambda x, w, b, *, S, P: F.conv2d(
            x, w[:, None], b, S, P, groups=len(w)
        ),
        "dropout": lambda x, mask, *, p: x * mask / (1 - p),
        "elu": lambda x, *, alpha: F.elu(x, alpha),
        "embedding": lambda ids, w: F.embedding(ids, w),
        "film": lambda x, gamma, beta: gamma[:, :, None, None] * x + beta[:, :, None, None],
        "focal_loss": focal_loss,
        "geglu": geglu,
        "gelu": lambda x: F.gelu(x, approximate="tanh"),
        "global_avg_pool": lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
        "glu": glu,
        "group_norm": lambda x, gamma, beta, *, G, eps: F.group_norm(x, G, gamma, beta, eps),
        "gru": gru,
        "gru_cell": lambda x, h, wx, wh, bx, bh: torch.gru_cell(x, h, wx, wh, bx, bh),
        "hardswish": lambda x: F.hardswish(x),
        "highway": highway,
        "hinge": hinge,
        "huber": lambda x, t, *, delta: F.huber_loss(x, t, delta=delta),
        "instance_norm": lambda x, gamma, beta, *, eps: F.instance_norm(
            x, weight=gamma, bias=beta, eps=eps
        ),
        "kl_divergence": lambda x, t: F.kl_div(x, t, reduction="batchmean"),
        "l2_normalize": lambda x, *, eps: F.normalize(x, dim=1, eps=eps),
        "label_smoothing": lambda x, t, *, eps: F.cross_entropy(x, t, label_smoothing=eps),
        "layer_norm": lambda x, gamma, beta, *, eps: F.layer_norm(x, x.shape[1:], gamma, beta, eps),
        "leaky_relu": lambda x, *, slope: F.leaky_relu(x, slope),
        "linear": lambda x, w, b: F.linear(x, w, b),
        "linear_any": lambda x, w, b: F.linear(x, w, b),
        "linear_batch_norm": linear_batch_norm,
        "local_response_norm": local_response_norm,
        "log_softmax": lambda x: F.log_softmax(x, dim=1),
        "lstm": lstm,
        "lstm_cell": lstm_cell,
        "max_pool2d": lambda x, *, K, S: F.max_pool2d(x, K, S),
        "maxout": maxout,
        "mish": lambda x: F.mish(x),
        "mlp": mlp,
        "mse": lambda x, t: F.mse_loss(x, t),
        "multi_head_attention": multi_head_attention,
        "pixel_shuffle": lambda x, *, R: F.pixel_shuffle(x, R),
        "prelu": lambda x, a: F.prelu(x, a),
        "relu": lambda x: F.relu(x),
        "residual_block": residual_block,
        "rms_norm": lambda x, gamma, *, eps: F.rms_norm(x, x.shape[1:], gamma, eps),
        "rnn": rnn,
        "rotary_embedding": rotary_embedding,
        "selu": lambda x: F.selu(x),
        "sigmoid": lambda x: torch.sigmoid(x),
        "silu": lambda x: F.silu(x),
        "softmax": lambda x: F.softmax(x, dim=1),
        "softmax_cross_entropy": lambda x, t: F.cross_entropy(x, t),
        "softplus": lambda x, *, beta: F.softplus(x, beta),
        "squeeze_excite": squeeze_excite,
        "swiglu": lambda x, w, v, o: (F.silu(x @ w.T) * (x @ v.T)) @ o.T,
        "tanh": lambda x: torch.tanh(x),
        "transformer_block": transformer_block,
        "transposed_conv2d": lambda x, w, b, *, S, P: F.conv_transpose2d(x, w, b, S, P),
        "triplet": triplet,
        "upsample_nearest": lambda x, *, S: F.interpolate(x, scale_factor=S, mode="nearest"),
        "weight_norm": weight_norm,
    }


@dataclass(frozen=True)
class Drawn(Point):
    """Where to differentiate, with cotangents of the outputs and tangents of the inputs."""

    tangents: Mapping[str, np.ndarray]
    cotangents: tuple[np.ndarray, ...]

    def astype(self, dtype: str) -> "Drawn":
        def cast(a: np.ndarray) -> np.ndarray:
            return a if a.dtype.kind == "i" else a.astype(dtype)

        return Drawn(
            {k: cast(v) for k, v in self.tensors.items()}, self.constants, self.sizes,
            {k: cast(v) for k, v in self.tangents.items()}, tuple(map(cast, self.cotangents)),
        )  # fmt: skip


def draw(spec: Spec, sizes: Mapping[str, Any], rng: np.random.Generator) -> Drawn:
    """Return a point at sizes and constants (both in `sizes`), with values of unit size."""
    tensors: dict[str, np.ndarray] = {}
    for name, tensor in spec.tensors.items():
        if tensor.kind == "output":
            continue
        shape, bounds = spec.shape(name, sizes), spec.bounds(name, sizes)
        if tensor.integer:
            tensors[name] = rng.integers(bounds[0], bounds[1] + 1, shape)
        elif tensor.values is not None:
            tensors[name] = rng.choice(np.array(tensor.values, float), shape)
        elif bounds is not None:
            tensors[name] = rng.uniform(*bounds, shape)
        else:
            tensors[name] = rng.standard_normal(shape)
    return Drawn(
        {k: np.asarray(v) for k, v in tensors.items()},
        {k: sizes[k] for k in spec.constants},
        sizes,
        {k: np.asarray(rng.standard_normal(tensors[k].shape)) for k in spec.differentiable},
        tuple(
            np.asarray(rng.standard_normal(spec.shape(y, sizes)))
            for y in spec.differentiable_outputs
        ),
    )


@dataclass(frozen=True)
class Derivatives:
    """Outputs, gradients by name and tangents of the outputs."""

    outputs: Sequence[np.ndarray]
    gradients: Mapping[str, np.ndarray]
    tangents: Sequence[np.ndarray]

    def parts(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield every array with what it is."""
        yield from ((f"output {k}", y) for k, y in enumerate(self.outputs))
        yield from ((f"gradient of {k}", g) for k, g in self.gradients.items())
        yield from ((f"tangent {k}", t) for k, t in enumerate(self.tangents))


def by_torch(forward: Callable[..., Any], spec: Spec, point: Drawn) -> Derivatives:
    """Return what torch's autograd says."""
    import torch
    from torch.autograd import functional

    tensors = {k: torch.tensor(v) for k, v in point.tensors.items()}
    wrt = spec.differentiable

    def outputs_at(*values):
        changed = dict(zip(wrt, values, strict=True))
        outputs = forward(**{**tensors, **changed}, **point.constants)
        outputs = tuple(outputs) if isinstance(outputs, list | tuple) else (outputs,)
        return dict(zip(spec.outputs, outputs, strict=True))

    def of_wrt(*values):
        outputs = outputs_at(*values)
        return tuple(outputs[y] for y in spec.differentiable_outputs)

    at = tuple(tensors[k] for k in wrt)
    along = tuple(torch.tensor(point.tangents[k]) for k in wrt)
    _, tangents = functional.jvp(of_wrt, at, along)
    _, gradients = functional.vjp(of_wrt, at, tuple(map(torch.tensor, point.cotangents)))
    return Derivatives(
        [y.numpy() for y in outputs_at(*at).values()],
        {k: g.numpy() for k, g in zip(wrt, gradients, strict=True)},
        [t.numpy() for t in tangents],
    )


def by_oracle(spec: Spec, point: Drawn) -> Derivatives:
    """Return what the oracle says."""
    found = oracle(spec)
    outputs, pullback = found.run(point)
    gradients = pullback(*point.cotangents)
    tangents = found.jvp(point, point.tangents)
    return Derivatives(outputs, gradients, tangents)


def exactly(spec: Spec, point: Drawn) -> Exact:
    """Return what 50-digit arithmetic says."""
    derivation = oracle(spec).derivation
    return evaluate_exactly(derivation, point, point.cotangents)


def largest(array: Any) -> float:
    return max((abs(float(a)) for a in np.ravel(array)), default=0.0)


def pairing(point: Drawn, magnitudes: Mapping[str, Any]) -> float:
    """Return the sum of the absolute values of the terms of <dy, J v>, from those of J^T dy."""
    return sum(float(np.sum(np.abs(point.tangents[k]) * m)) for k, m in magnitudes.items())


def rounding(spec: Spec, point: Drawn) -> Mapping[str, Allowance]:
    """Return how far each gradient may be off in the point's own dtype."""
    wide, dtype = point.astype("float64"), point.cotangents[0].dtype.name
    found = reference(oracle(spec), wide, wide.cotangents, dtype, 0)
    return found.allowed_gradients


def assert_agree(
    spec: Spec, point: Drawn, got: Derivatives, expected: Derivatives, relative: float
) -> None:
    """Assert that all arrays have the same shape and agree relative to their own size.

    A gradient whose terms cancel (that of a bias before batch norm is 0) says nothing of the
    size of its rounding errors: there it is relative to the absolute values of its terms, and so
    is a tangent. Where terms cancel inside one equation (1 + erf of a saturated unit), what
    rounding of them does to a gradient is measured, as it is for layers.
    """
    terms = cache(lambda: exactly(spec, point.astype("float64")).magnitudes)
    for (what, a), (_, b) in zip(got.parts(), expected.parts(), strict=True):
        assert a.shape == b.shape, f"{what} at {point.sizes}"
        scale, difference = largest(b), largest(np.subtract(a, b, dtype=float))
        if difference > relative * scale and what.startswith("gradient of "):
            tensor = what.removeprefix("gradient of ")
            scale = max(scale, largest(terms()[tensor]))
            if difference > relative * scale and difference <= rounding(spec, point)[tensor].value:
                continue
        elif difference > relative * scale and what.startswith("tangent "):
            scale = max(scale, pairing(point, terms()) / max(map(largest, point.cotangents)))
        assert difference <= relative * scale, f"{what} at {point.sizes}: {a} is not {b}"
