"""What scikit-learn's embeddings minimise: neighbourhood components analysis and t-SNE.

NCA: Goldberger, Roweis, Hinton & Salakhutdinov 2005, "Neighbourhood components analysis".
t-SNE: van der Maaten & Hinton 2008, "Visualizing data using t-SNE", in its exact variant.
"""

import numpy as np
from scipy.spatial.distance import squareform
from sklearn.manifold._t_sne import _kl_divergence
from sklearn.neighbors import NeighborhoodComponentsAnalysis

from gradverify import Constant, Input, Output, Param, Spec
from gradverify.adapters import value_and_grad

nca = Spec(
    "nca",
    x=Input("N D", differentiable=False),
    same=Input("N N", values=(0, 1), differentiable=False),  # whether of one class
    a=Param("C D"),
    loss=Output(""),
    where=["N >= 2"],  # of one sample there is no other to be near to
    definition="""
        e[n,c]     = sum[d](x[n,d]*a[c,d])
        apart[i,j] = where(i == j, inf, sum[c]((e[i,c] - e[j,c])**2))
        total[i]   = logsumexp[j](-apart[i,j])
        p[i,j]     = exp(-apart[i,j] - total[i])
        loss       = sum[i,j](same[i,j]*p[i,j])
    """,
)


analysis = NeighborhoodComponentsAnalysis()
analysis.n_iter_ = 0  # as `fit` sets it
nca.register(
    value_and_grad(analysis._loss_grad_lbfgs, flat=["a"], names={"same": "same_class_mask"}),
    name="sklearn_nca",
)


# The degrees of freedom are 1 for an embedding in the plane, and 2 for one in space, whose gradient
# is not that of the divergence: it has w[i,j] where (1 + d[i,j]/freedom)**-1 is derived.
for name, freedom in {"tsne": 1, "tsne_in_space": 2}.items():
    tsne = Spec(
        name,
        s=Input("N N", range="0.1..3", differentiable=False),
        y=Param("N C"),
        freedom=Constant(freedom),
        loss=Output(""),
        where=["N >= 2"],
        definition="""
            near[i,j] = where(i == j, 0, s[i,j] + s[j,i])
            p[i,j]    = near[i,j]/sum[k,l](near[k,l])
            d[i,j]    = sum[c]((y[i,c] - y[j,c])**2)
            w[i,j]    = where(i == j, 0, (1 + d[i,j]/freedom)**(-(freedom + 1)/2))
            q[i,j]    = w[i,j]/sum[k,l](w[k,l])
            loss      = sum[i,j](where(i == j, 0, p[i,j]*log(p[i,j]/q[i,j])))
        """,
    )

    @tsne.register(name=f"sklearn_{name}")
    def divergence(s, y, *, freedom):
        near = s + s.T
        np.fill_diagonal(near, 0)
        # The gradient presumes that they add up to 1, as they do except in the first iterations.
        p = squareform(near / near.sum(), checks=False)
        value, gradient = _kl_divergence(y.ravel(), p, freedom, *y.shape)
        # Distances are float64 whatever the data, and so is what follows from them.
        return np.asarray(value, y.dtype), lambda dloss: {"y": dloss * gradient.reshape(y.shape)}
