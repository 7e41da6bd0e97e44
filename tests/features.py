"""One layer for every way to write a definition, as a spec and as a forward in torch, by name."""

import math
from functools import cache

import numpy as np
from torch_layers import draw

from gradverify import Constant, Input, Output, Param, Spec


def spec_of(definition, *, name="s", ranges=None, **declared):
    return Spec(name, definition=definition, ranges=ranges, **declared)


IDS = Input("N", dtype=int, range="0..V-1")
INF = math.inf

# name -> (definition, declarations)
FEATURES = {
    "number_compared": (
        "h = 1\ny[n,c] = where(h > 0.5, x[n,c]*h, 0)*(h + 1)",
        {"x": Input("N C"), "y": Output("N C")},
    ),
    "scalars": ("y = exp(x)*w + 1", {"x": Input(""), "w": Param(""), "y": Output("")}),
    "transpose": ("y[c,n] = x[n,c]**2", {"x": Input("N C"), "y": Output("C N")}),
    "broadcast": (
        "y[n,c,d] = x[n,c]*w[d] + w[c]*v",
        {"x": Input("N D"), "w": Param("D"), "v": Param(""), "y": Output("N D D")},
    ),
    "concatenation": (
        "y[n,h] = a[n,h]**2\ny[n,H+h] = exp(b[n,h])",
        {"a": Input("N H"), "b": Input("N H"), "y": Output("N 2*H"), "ranges": {"h": "H"}},
    ),
    "interleave": (
        "y[2*n] = x[n]**2\ny[2*n+1] = x[n]*w[n]",
        {"x": Input("N"), "w": Param("N"), "y": Output("2*N"), "ranges": {"n": "N"}},
    ),
    "slice": (
        "y[n] = x[n]*x[n+N]*x[n+2*N]",
        {"x": Input("3*N"), "y": Output("N"), "ranges": {"n": "N"}},
    ),
    "strided": ("y[n] = x[2*n]*x[2*n+1]", {"x": Input("2*N"), "y": Output("N")}),
    "groups": (
        "y[n,c] = x[n,c]*m[n,c]\nm[n,g*K+k] = mean[j](x[n,g*K+j]*w[g,k])",
        {"x": Input("N G*K"), "w": Param("G K"), "y": Output("N G*K"),
         "ranges": {"g": "G", "k": "K", "j": "K"}},
    ),
    "diagonal": ("y[i] = x[i,i]**3", {"x": Input("N N"), "y": Output("N")}),
    "trace": ("y = sum[i](x[i,i]**3)", {"x": Input("N N"), "y": Output("")}),
    "off_diagonal": (
        "y[i,j] = where(i == j, 0, x[i,j]*x[j,i])", {"x": Input("N N"), "y": Output("N N")},
    ),
    "diag_embed": (
        "y[i,j] = where(i == j, x[i], 0)", {"x": Input("N"), "y": Output("N N")},
    ),
    "triangle": (
        "y[t] = sum[s](where(s <= t, x[s]**2, 0))", {"x": Input("T"), "y": Output("T")},
    ),
    "flip": ("y[n] = x[N-1-n]**2", {"x": Input("N"), "y": Output("N")}),
    "flip_left": (
        "y[N-1-n] = x[n]**2", {"x": Input("N"), "y": Output("N"), "ranges": {"n": "N"}},
    ),
    "toeplitz": (
        "y[i,j] = x[i-j+N-1]**2", {"x": Input("2*N-1"), "y": Output("N N"),
                                   "ranges": {"i": "N", "j": "N"}},
    ),
    "wrap": (
        "y[n] = x[n]*x[(n+1) % N]", {"x": Input("N"), "y": Output("N")},
    ),
    "repeat": (
        "y[n] = x[n//K]**2", {"x": Input("N"), "K": Constant(1, 2, 3), "y": Output("K*N")},
    ),
    "gather": (
        "y[n,d] = w[ids[n],d]*x[n]",
        {"ids": IDS, "x": Input("N"), "w": Param("V D"), "y": Output("N D")},
    ),
    "labels": ("y[n] = x[n,ids[n]]**2", {"ids": IDS, "x": Input("N V"), "y": Output("N")}),
    "double_gather": (
        "y[n] = w[key[ids[n]]]**2",
        {"ids": IDS, "key": Input("V", dtype=int, range="0..D-1"), "w": Param("D"),
         "y": Output("N")},
    ),
    "label_values": (
        "y[n,c] = where(c == ids[n], x[n,c]**2, ids[n]*x[n,c])",
        {"ids": IDS, "x": Input("N V"), "y": Output("N V")},
    ),
    "scatter": (
        "y[ids[n],d] += x[n,d]*v[ids[n]]",
        {"ids": IDS, "x": Input("N D"), "v": Param("V"), "y": Output("V D")},
    ),
    "scatter_onto": (
        "y[v,d] = w[v,d]**2\ny[ids[n],d] += x[n,d]**2",
        {"ids": IDS, "x": Input("N D"), "w": Param("V D"), "y": Output("V D")},
    ),
    "overlap_add": (
        "y[t+k] += x[t,k]**2",
        {"x": Input("T K"), "y": Output("T+K-1"), "ranges": {"t": "T", "k": "K"}},
    ),
    "causal_filter": (
        "y[t] = sum[k](x[t-k]*w[k])",
        {"x": Input("T", outside=0), "w": Param("K"), "y": Output("T")},
    ),
    "neighbours": (
        "y[t] = x[t-1]*x[t+1]**2 - 2*x[t]", {"x": Input("T", outside=2), "y": Output("T")},
    ),
    "corner": (
        "y[t,u] = x[t-1,u+2]**2*x[t,u]", {"x": Input("T U", outside=0), "y": Output("T U")},
    ),
    "padded_max": (
        "y[t] = max[k](x[t+k-1])",
        {"x": Input("T", outside=-INF), "y": Output("T"), "ranges": {"k": "3"}},
    ),
    "param_outside": (
        "y[t] = x[t]*w[t-1]", {"x": Input("T"), "w": Param("T", outside=1), "y": Output("T")},
    ),
    "maxima_side_by_side": (
        "y[n,h] = max[c](a[n,h,c])\ny[n,H+h] = max[c](b[n,h,c]*a[n,h,0])",
        {"a": Input("N H C"), "b": Input("N H C"), "y": Output("N 2*H"), "ranges": {"h": "H"}},
    ),
    "maxima_interleaved": (
        "y[2*n] = max[c,k](x[n,c,k])\ny[2*n+1] = min[c,k](x[n,c,k])",
        {"x": Input("N C K"), "y": Output("2*N"), "ranges": {"n": "N"}},
    ),
    "maximum_transposed": (
        "y[k,g*C+c] = max[n](x[n,g,c,k])",
        {"x": Input("N G C K"), "y": Output("K G*C"), "ranges": {"g": "G", "c": "C"}},
    ),
    "logsumexp": (
        "y[n] = logsumexp[c](x[n,c]*w[c])", {"x": Input("N C"), "w": Param("C"),
                                             "y": Output("N")},
    ),
    "sum_beside_function": (
        "y[n] = sum[c](x[n,c]**2) + tanh(x[n,0]) - mean[c](exp(x[n,c])) + 3",
        {"x": Input("N C"), "y": Output("N")},
    ),
    "functions": (
        "y[n] = sin(x[n])*cos(x[n]) + erf(x[n]) + log1p(x[n]**2) + expm1(x[n]) + softplus(x[n])"
        " + relu(x[n]) + abs(x[n]) + sigmoid(x[n])*tanh(x[n])*sqrt(x[n]**2 + 1)"
        " + max(x[n], w[n])*min(x[n], w[n])",
        {"x": Input("N"), "w": Param("N"), "y": Output("N")},
    ),
    "powers": (
        "y[n] = x[n]**w[n] + 2**w[n] + x[n]**-2 + x[n]**0.3 + w[n]**3",
        {"x": Input("N", range="0.5..2"), "w": Param("N"), "y": Output("N")},
    ),
    "numbers": (
        "y[n] = x[n]*n + N*pi/3 + 0.1*exp(1) + 1e-3*x[n]**2*sqrt(N) + log(N + 1)/K + n//2",
        {"x": Input("N"), "K": Constant(2, 3), "y": Output("N")},
    ),
    "condition_on_sizes": (
        "y[n] = where(N > 2, x[n]**2, x[n]) + where(not K == 2, 1, x[n]) + x[n]*(K < N)",
        {"x": Input("N"), "K": Constant(2, 3), "y": Output("N")},
    ),
    "conditions": (
        "y[n] = where(x[n] > 0 and (n % 2 == 0 or not w[n] >= x[n]), x[n]*w[n], -x[n]**2)"
        " + where(-0.5 < x[n] <= 0.5, x[n]**3, 0)",
        {"x": Input("N"), "w": Param("N"), "y": Output("N")},
    ),
    "empty_reduction": (
        "y[n] = mean[k](2)*x[n] + sum[k](k*2)*x[n]**2 + sum[k](1)",
        {"x": Input("N"), "w": Param("K"), "y": Output("N"), "ranges": {"k": "K"}},
    ),
    "output_reads_output": (
        "y[n] = exp(x[n])\nz[n] = y[n]**2\ns = sum[n](y[n]*z[n])",
        {"x": Input("N"), "y": Output("N"), "z": Output("N"), "s": Output("")},
    ),
    "output_read_in_part": (
        "y[n] = exp(x[n])\nz = y[0]**2\nv[n] = y[N-1-n]",
        {"x": Input("N"), "y": Output("N"), "z": Output(""), "v": Output("N")},
    ),
    "output_twice": (
        "y[n] = x[n]\nz[n] = x[n]", {"x": Input("N"), "y": Output("N"), "z": Output("N")},
    ),
    "recurrent_output": (
        "y[T,n] = h[n]\ny[t,n] = tanh(sum[m](w[n,m]*y[t+1,m]) + x[t,n])",
        {"x": Input("T N"), "w": Param("N N"), "h": Param("N"), "y": Output("T+1 N"),
         "ranges": {"t": "T"}},
    ),
    "product_over_time": (
        "p[-1,n] = 1\np[t,n] = p[t-1,n]*x[t,n]\ny[n] = p[T-1,n]",
        {"x": Input("T N"), "y": Output("N")},
    ),
    "padding_in_a_recurrence": (
        "h[-1] = 0\nh[t] = sum[k](x[t-k]*w[k]) + tanh(h[t-1]*x[t-1])\ny[t] = h[t]",
        {"x": Input("T", outside=0), "w": Param("K"), "y": Output("T"), "ranges": {"t": "T"}},
    ),
    "padding_read_again_in_a_recurrence": (
        "h[-1] = w\nh[t] = tanh(h[t-1]*x[t-1])\ny[t] = h[t]",
        {"x": Input("T", outside=2), "w": Param(""), "y": Output("T"), "ranges": {"t": "T"}},
    ),
    "correlate": (
        "y[n,k,p] = sum[c,r](x[n,c,S*p+D*r-P]*w[k,c,r])",
        {"x": Input("N C L", outside=0), "w": Param("K C R"), "S": Constant(1, 2),
         "D": Constant(1, 3), "P": Constant(0, 2), "y": Output("N K (L+2*P-D*(R-1)-1)//S+1"),
         "where": ["L+2*P >= D*(R-1)+1"]},
    ),
    "windows_backwards": (
        "y[k,t] = x[t-2*k+2*K-2]**2*w[k]",
        {"x": Input("T+2*K-2"), "w": Param("K"), "y": Output("K T"), "ranges": {"t": "T"}},
    ),
    "windows_of_windows": (
        "y[t] = sum[j,k](x[t+2*j-k+K-1]*w[j]*v[k])",
        {"x": Input("T+K+2*J-3"), "w": Param("J"), "v": Param("K"), "y": Output("T"),
         "ranges": {"t": "T"}},
    ),
    "windows_of_what_is_gathered": (
        "y[n,t] = sum[k](w[ids[n],t+k]*v[k])**2",
        {"ids": IDS, "w": Param("V T+K-1"), "v": Param("K"), "y": Output("N T"),
         "ranges": {"t": "T"}},
    ),
    "windows_of_a_power": (
        "s[n] = x[n]**2 + 1\ny[t] = sum[k](s[t+k]**2*w[k])*s[t]",
        {"x": Input("T+K-1"), "w": Param("K"), "y": Output("T"), "ranges": {"t": "T"}},
    ),
    "digits": (
        "y[n,h*R+a,w*S+b] = x[n,a*S+b,h,w]**2",
        {"x": Input("N R*S H W"), "R": Constant(1, 2), "S": Constant(1, 3),
         "y": Output("N H*R W*S"), "ranges": {"a": "R", "b": "S"}},
    ),
    "digits_copied": (
        "y[g*K+k] = x[g,k]\nz[g*K+k] = sum[j](x[g,j]*w[k]) + w[k]*v",
        {"x": Input("G K"), "w": Param("K"), "v": Param(""), "y": Output("G*K"),
         "z": Output("G*K"), "ranges": {"g": "G", "k": "K"}},
    ),
    "einsum_of_three": (
        "y[b] = sum[i,j,k](x[b,i]*u[i,j]*v[j,k]*x[b,k])",
        {"x": Input("B I"), "u": Param("I J"), "v": Param("J I"), "y": Output("B")},
    ),
}  # fmt: skip


@cache
def feature(name):
    definition, declared = FEATURES[name]
    return spec_of(definition, name=name, **declared)


def feature_forwards():
    """Return the same layers in torch."""
    import torch

    def stack(*parts, dim):
        return torch.stack(parts, dim)

    def windows(x, K, value=0.0):
        """Return x[t - k] for k < K, with `value` before the start."""
        padded = torch.cat([x.new_full((K - 1,), value), x])
        return padded.unfold(0, K, 1).flip(1)

    def index_add(y, ids, x):
        return y.index_add(0, ids, x)

    def overlap_add(x):
        T, K = x.shape
        place = torch.arange(T)[:, None] + torch.arange(K)
        return x.new_zeros(T + K - 1).index_add(0, place.ravel(), (x**2).ravel())

    def neighbours(x):
        p = torch.cat([x.new_full((1,), 2), x, x.new_full((1,), 2)])
        return p[:-2] * p[2:] ** 2 - 2 * x

    def corner(x):
        p = torch.nn.functional.pad(x, (0, 2, 1, 0))
        return p[:-1, 2:] ** 2 * x

    def padded_max(x):
        edge = x.new_full((1,), -INF)
        return torch.cat([edge, x, edge]).unfold(0, 3, 1).amax(1)

    def recurrent_output(x, w, h):
        y = [h]
        for x_t in x.flip(0):
            y.insert(0, (w @ y[0] + x_t).tanh())
        return torch.stack(y)

    def padding_in_a_recurrence(x, w):
        drive = windows(x, len(w)) @ w
        before, h = windows(x, 2)[:, 1], [x.new_zeros(())]
        for d, b in zip(drive, before, strict=True):
            h.append(d + (h[-1] * b).tanh())
        return torch.stack(h[1:])

    def padding_read_again_in_a_recurrence(x, w):
        h = [w]
        for before in torch.cat([x.new_full((1,), 2), x[:-1]]):
            h.append((h[-1] * before).tanh())
        return torch.stack(h[1:])

    def windows_of_windows(x, w, v):
        J, K = len(w), len(v)
        return torch.einsum("tkj,j,k->t", x.unfold(0, 2 * J - 1, 1)[:, ::2].unfold(0, K, 1).flip(2)
                            .transpose(1, 2), w, v)  # fmt: skip

    def digits(x, R, S):
        N, _, H, W = x.shape
        parts = x.reshape(N, R, S, H, W).permute(0, 3, 1, 4, 2)
        return parts.reshape(N, H * R, W * S) ** 2

    def functions(x, w):
        return (
            x.sin() * x.cos() + x.erf() + (x**2).log1p() + x.expm1() + (1 + x.exp()).log()
            + x.relu() + x.abs() + x.sigmoid() * x.tanh() * (x**2 + 1).sqrt()
            + torch.maximum(x, w) * torch.minimum(x, w)
        )  # fmt: skip

    def numbers(x, K):
        N, n = len(x), torch.arange(len(x), dtype=x.dtype)
        rest = N * math.pi / 3 + 0.1 * math.e + math.log(N + 1) / K
        return x * n + rest + 1e-3 * x**2 * math.sqrt(N) + n // 2

    def condition_on_sizes(x, K):
        N = len(x)
        return (x**2 if N > 2 else x) + (1 if K != 2 else x) + (x if N > K else 0)

    def conditions(x, w):
        even = torch.arange(len(x)) % 2 == 0
        first = torch.where((x > 0) & (even | ~(w >= x)), x * w, -(x**2))
        return first + torch.where((x > -0.5) & (x <= 0.5), x**3, 0.0)

    def groups(x, w):
        N, (G, K) = len(x), w.shape
        return x * (x.reshape(N, G, K).mean(2)[:, :, None] * w).reshape(N, G * K)

    def toeplitz(x):
        i = torch.arange((len(x) + 1) // 2)
        return x[i[:, None] - i + len(i) - 1] ** 2

    return {
        "number_compared": lambda x: 2 * x,
        "scalars": lambda x, w: x.exp() * w + 1,
        "transpose": lambda x: x.T**2,
        "broadcast": lambda x, w, v: x[:, :, None] * w + (w * v)[:, None],
        "concatenation": lambda a, b: torch.cat([a**2, b.exp()], dim=1),
        "interleave": lambda x, w: stack(x**2, x * w, dim=1).ravel(),
        "slice": lambda x: x.reshape(3, -1).prod(0),
        "strided": lambda x: x[::2] * x[1::2],
        "groups": groups,
        "diagonal": lambda x: x.diagonal() ** 3,
        "trace": lambda x: (x.diagonal() ** 3).sum(),
        "off_diagonal": lambda x: x * x.T * (1 - torch.eye(len(x), dtype=x.dtype)),
        "diag_embed": torch.diag_embed,
        "triangle": lambda x: (x**2).cumsum(0),
        "flip": lambda x: x.flip(0) ** 2,
        "flip_left": lambda x: x.flip(0) ** 2,
        "toeplitz": toeplitz,
        "wrap": lambda x: x * x.roll(-1),
        "repeat": lambda x, K: x.repeat_interleave(K) ** 2,
        "gather": lambda ids, x, w: w[ids] * x[:, None],
        "labels": lambda ids, x: x.gather(1, ids[:, None])[:, 0] ** 2,
        "double_gather": lambda ids, key, w: w[key[ids]] ** 2,
        "label_values": lambda ids, x: torch.where(
            torch.arange(x.shape[1]) == ids[:, None], x**2, ids[:, None] * x
        ),
        "scatter": lambda ids, x, v: index_add(
            x.new_zeros(len(v), x.shape[1]), ids, x * v[ids][:, None]
        ),
        "scatter_onto": lambda ids, x, w: index_add(w**2, ids, x**2),
        "overlap_add": overlap_add,
        "causal_filter": lambda x, w: windows(x, len(w)) @ w,
        "neighbours": neighbours,
        "corner": corner,
        "padded_max": padded_max,
        "param_outside": lambda x, w: x * torch.cat([w.new_ones(1), w[:-1]]),
        "maxima_side_by_side": lambda a, b: torch.cat([a.amax(2), (b * a[:, :, :1]).amax(2)], 1),
        "maxima_interleaved": lambda x: stack(x.amax((1, 2)), x.amin((1, 2)), dim=1).ravel(),
        "maximum_transposed": lambda x: x.amax(0).permute(2, 0, 1).flatten(1),
        "logsumexp": lambda x, w: (x * w).logsumexp(1),
        "sum_beside_function": lambda x: (x**2).sum(1) + x[:, 0].tanh() - x.exp().mean(1) + 3,
        "functions": functions,
        "powers": lambda x, w: x**w + 2**w + x**-2 + x**0.3 + w**3,
        "numbers": numbers,
        "condition_on_sizes": condition_on_sizes,
        "conditions": conditions,
        "empty_reduction": lambda x, w: 2 * x + len(w) * (len(w) - 1) * x**2 + len(w),
        "output_reads_output": lambda x: (x.exp(), (2 * x).exp(), (3 * x).exp().sum()),
        "output_read_in_part": lambda x: (x.exp(), (2 * x[0]).exp(), x.flip(0).exp()),
        "output_twice": lambda x: (x * 1, x * 1),
        "recurrent_output": recurrent_output,
        "product_over_time": lambda x: x.prod(0),
        "padding_in_a_recurrence": padding_in_a_recurrence,
        "padding_read_again_in_a_recurrence": padding_read_again_in_a_recurrence,
        "correlate": lambda x, w, S, D, P: torch.conv1d(x, w, stride=S, padding=P, dilation=D),
        "windows_backwards": lambda x, w: (
            (x.unfold(0, 2 * len(w) - 1, 1)[:, ::2].flip(1) ** 2 * w).T
        ),
        "windows_of_windows": windows_of_windows,
        "windows_of_what_is_gathered": lambda ids, w, v: (w[ids].unfold(1, len(v), 1) @ v) ** 2,
        "windows_of_a_power": lambda x, w: (
            ((x**2 + 1) ** 2).unfold(0, len(w), 1) @ w * (x**2 + 1)[: len(x) - len(w) + 1]
        ),
        "digits": digits,
        "digits_copied": lambda x, w, v: (x.ravel(), (x.sum(1)[:, None] * w + w * v).ravel()),
        "einsum_of_three": lambda x, u, v: torch.einsum("bi,ij,jk,bk->b", x, u, v, x),
    }


def points(spec, seed=0):
    """Yield points at sizes that are primes, the same primes in another order, all 1 and all 2."""
    rng = np.random.default_rng(seed)
    for sizes in spec.sizes():
        yield draw(spec, sizes, rng)
