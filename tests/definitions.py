"""Definitions that several tests derive: recurrences, and what is singular where it is not meant."""

from gradverify import Input, Output, Param, Spec

RNN = Spec(
    "rnn",
    x=Input("T N D"),
    h0=Input("N H"),
    w=Param("H D"),
    u=Param("H H"),
    b=Param("H"),
    y=Output("T N H"),
    definition="""
        y[-1,n,k] = h0[n,k]
        y[t,n,k]  = tanh(sum[d](x[t,n,d]*w[k,d]) + sum[m](y[t-1,n,m]*u[k,m]) + b[k])
    """,
)

GRU = Spec(
    "gru",
    x=Input("T N D"),
    h0=Input("N H"),
    w=Param("3*H D"),
    u=Param("3*H H"),
    b=Param("3*H"),
    v=Param("3*H"),
    y=Output("T N H"),
    last=Output("N H"),
    ranges={"k": "H"},
    definition="""
        a[t,n,j]  = sum[d](x[t,n,d]*w[j,d]) + b[j]
        s[t,n,j]  = sum[m](h[t-1,n,m]*u[j,m]) + v[j]
        r[t,n,k]  = sigmoid(a[t,n,k] + s[t,n,k])
        z[t,n,k]  = sigmoid(a[t,n,k+H] + s[t,n,k+H])
        c[t,n,k]  = tanh(a[t,n,k+2*H] + r[t,n,k]*s[t,n,k+2*H])
        h[-1,n,k] = h0[n,k]
        h[t,n,k]  = (1 - z[t,n,k])*c[t,n,k] + z[t,n,k]*h[t-1,n,k]
        y[t,n,k]  = h[t,n,k]
        last[n,k] = h[T-1,n,k]
    """,
)

LSTM = Spec(
    "lstm",
    x=Input("T N D"),
    h0=Input("N H"),
    c0=Input("N H"),
    w=Param("4*H D"),
    u=Param("4*H H"),
    b=Param("4*H"),
    y=Output("T N H"),
    last=Output("N H"),
    ranges={"k": "H"},
    definition="""
        z[t,n,j]  = sum[d](x[t,n,d]*w[j,d]) + sum[m](h[t-1,n,m]*u[j,m]) + b[j]
        i[t,n,k]  = sigmoid(z[t,n,k])
        f[t,n,k]  = sigmoid(z[t,n,k+H])
        g[t,n,k]  = tanh(z[t,n,k+2*H])
        o[t,n,k]  = sigmoid(z[t,n,k+3*H])
        c[-1,n,k] = c0[n,k]
        c[t,n,k]  = f[t,n,k]*c[t-1,n,k] + i[t,n,k]*g[t,n,k]
        h[-1,n,k] = h0[n,k]
        h[t,n,k]  = o[t,n,k]*tanh(c[t,n,k])
        y[t,n,k]  = h[t,n,k]
        last[n,k] = c[T-1,n,k]
    """,
)

BIDIRECTIONAL = Spec(
    "bidirectional",
    x=Input("T N D"),
    w=Param("H D"),
    u=Param("H H"),
    p=Param("H D"),
    q=Param("H H"),
    y=Output("T N 2*H"),
    ranges={"t": "T", "k": "H"},
    definition="""
        h[-1,n,k]  = 0
        h[t,n,k]   = tanh(sum[d](x[t,n,d]*w[k,d]) + sum[m](h[t-1,n,m]*u[k,m]))
        g[T,n,k]   = 0
        g[t,n,k]   = tanh(sum[d](x[t,n,d]*p[k,d]) + sum[m](g[t+1,n,m]*q[k,m]))
        y[t,n,k]   = h[t,n,k]
        y[t,n,H+k] = g[t,n,k]
    """,
)

# Reads two steps of its past, and its output is read by another output.
SECOND_ORDER = Spec(
    "second_order",
    x=Input("T N"),
    a=Param(""),
    b=Param("N"),
    y=Output("T N"),
    total=Output("N"),
    definition="""
        y[-2,n] = b[n]
        y[-1,n] = a*b[n]**2
        y[t,n]  = sigmoid(a*y[t-1,n])*y[t-2,n] + x[t,n]
        total[n] = sum[t](y[t,n]**2)
    """,
)

# The greatest of the neighbours at every step, so that the place of a maximum is kept over time.
VITERBI = Spec(
    "viterbi",
    x=Input("T N"),
    w=Param("N N"),
    y=Output("N"),
    definition="""
        s[-1,n] = 0
        s[t,n]  = max[m](s[t-1,m] + w[m,n]*x[t,m])
        y[n]    = s[T-1,n]
    """,
)


def recurrences():
    """Return (spec, torch forward) pairs."""
    import torch

    def unroll(x, state, step):
        states = [state]
        for x_t in x:
            states.append(step(x_t, states[-1]))
        return states[1:]

    def rnn(x, h0, w, u, b):
        zero = torch.zeros_like(b)
        return torch.stack(unroll(x, h0, lambda a, h: torch.rnn_tanh_cell(a, h, w, u, b, zero)))

    def gru(x, h0, w, u, b, v):
        states = unroll(x, h0, lambda a, h: torch.gru_cell(a, h, w, u, b, v))
        return torch.stack(states), states[-1]

    def lstm(x, h0, c0, w, u, b):
        zero = torch.zeros_like(b)
        states = unroll(x, (h0, c0), lambda a, s: torch.lstm_cell(a, s, w, u, b, zero))
        return torch.stack([h for h, _ in states]), states[-1][1]

    def bidirectional(x, w, u, p, q):
        h0 = torch.zeros(x.shape[1], w.shape[0], dtype=x.dtype)
        ahead = unroll(x, h0, lambda a, h: (a @ w.T + h @ u.T).tanh())
        back = unroll(x.flip(0), h0, lambda a, h: (a @ p.T + h @ q.T).tanh())
        return torch.cat([torch.stack(ahead), torch.stack(back[::-1])], dim=2)

    def second_order(x, a, b):
        path = [b, a * b**2]
        for x_t in x:
            path.append((a * path[-1]).sigmoid() * path[-2] + x_t)
        y = torch.stack(path[2:])
        return y, (y**2).sum(0)

    def viterbi(x, w):
        zero = torch.zeros_like(x[0])
        return unroll(x, zero, lambda a, s: (s[:, None] + w * a[:, None]).amax(0))[-1]

    return [
        (RNN, rnn), (GRU, gru), (LSTM, lstm), (BIDIRECTIONAL, bidirectional),
        (SECOND_ORDER, second_order), (VITERBI, viterbi),
    ]  # fmt: skip


NAMES = ["rnn", "gru", "lstm", "bidirectional", "second_order", "viterbi"]


def spec_of(definition, **changed):
    given = {"x": Input("N C"), "w": Param("C"), "y": Output("N C")}
    return Spec("s", definition=definition, **(given | changed))


NOWHERE_SINGULAR = [
    "y[n,c] = where(x[n,c] > 0, sqrt(x[n,c]), 0)",
    "y[n,c] = where(x[n,c] > 0, log(x[n,c])/x[n,c], 1)",
    "y[n,c] = where(x[n,c] <= 0, 1, 1/x[n,c])",
    "y[n,c] = where(x[n,c] > 0 and x[n,c] < 2, sqrt(x[n,c]), 0)",
    "y[n,c] = where(not x[n,c] > 0, 0, sqrt(x[n,c]))",
    # through a reduction, which is a tensor of its own
    "y[n,c] = where(x[n,c] > 0, sqrt(sum[k](x[n,k]**2)), 0)",
    "y[n,c] = where(x[n,c] > 0, sum[k](sqrt(x[n,k])), 0)",
    "y[n,c] = where(x[n,c] > 0, mean[k](1/x[n,k])**0.5, 0)",
    "y[n,c] = where(x[n,c] > 0, max[k](log(x[n,k])), 0)",
    "y[n,c] = where(x[n,c] > 0, logsumexp[k](1/x[n,k]), 0)",
    "y[n,c] = where(x[n,c] > 0, log(sum[k](sqrt(sum[j](x[k,j])))), 0)",
]
