"""The kernels of scikit-learn's Gaussian processes, with `eval_gradient=True`.

Their gradients are with respect to the logarithms of the hyperparameters, which are what is fitted.
Those of the data are not offered.
Rasmussen & Williams 2006, "Gaussian processes for machine learning", chapter 4.
"""

import numpy as np
from sklearn.gaussian_process import kernels

from gradverify import Input, Output, Param, Spec

ONE = Param("", init="zeros", range="-3..3")
EACH = Param("D", init="zeros", range="-3..3")


def covariance(name, definition, **parameters):
    return Spec(
        name, x=Input("N D", differentiable=False), K=Output("N N"), definition=definition,
        where=["N >= 1"],  # of no sample, `squareform` makes a matrix of one
        **parameters,
    )  # fmt: skip


def register(spec, kernel):
    """Register the kernel that `kernel(D)` is, whose parameters are those of the spec, in order."""

    def layer(x, **logarithms):
        theta = [np.ravel(logarithms[name]) for name in spec.params]
        value, gradient = kernel(x.shape[1]).clone_with_theta(np.concatenate(theta))(
            x, eval_gradient=True
        )

        def pullback(dK):
            found = np.einsum("ij,ijk->k", dK, gradient)
            parts = np.split(found, np.cumsum([t.size for t in theta])[:-1])
            shaped = zip(logarithms.items(), parts, strict=True)
            return {name: part.reshape(t.shape) for (name, t), part in shaped}

        return value, pullback

    # Distances are float64 whatever the data, and so is what follows from them.
    spec.register(layer, name=f"sklearn_{spec.name}", dtypes=["float64"])


constant = covariance("constant_kernel", "K[i,j] = exp(value)", value=ONE)
register(constant, lambda D: kernels.ConstantKernel())

white = covariance("white_kernel", "K[i,j] = where(i == j, exp(noise), 0)", noise=ONE)
register(white, lambda D: kernels.WhiteKernel())

dot_product = covariance(
    "dot_product_kernel", "K[i,j] = sum[d](x[i,d]*x[j,d]) + exp(2*sigma)", sigma=ONE
)
register(dot_product, lambda D: kernels.DotProduct())

rbf = covariance(
    "rbf_kernel",
    """
        s[i,j] = sum[d]((x[i,d] - x[j,d])**2)*exp(-2*length)
        K[i,j] = exp(-s[i,j]/2)
    """,
    length=ONE,
)
register(rbf, lambda D: kernels.RBF())

rbf_anisotropic = covariance(
    "rbf_anisotropic_kernel",
    """
        s[i,j] = sum[d]((x[i,d] - x[j,d])**2*exp(-2*length[d]))
        K[i,j] = exp(-s[i,j]/2)
    """,
    length=EACH,
)
register(rbf_anisotropic, lambda D: kernels.RBF(np.ones(D)))

# What is made of the distance r is smooth in the lengths, also where r is 0 and has no derivative.
MATERN = {
    0.5: "exp(-r[i,j])",
    1.5: "(1 + sqrt(3)*r[i,j])*exp(-sqrt(3)*r[i,j])",
    2.5: "(1 + sqrt(5)*r[i,j] + 5*s[i,j]/3)*exp(-sqrt(5)*r[i,j])",
    np.inf: "exp(-s[i,j]/2)",
}
for nu, of_distance in MATERN.items():
    tail = f"r[i,j] = where(i == j, 0, sqrt(s[i,j]))\nK[i,j] = {of_distance}"
    matern = covariance(
        f"matern_{nu}_kernel",
        f"s[i,j] = sum[d]((x[i,d] - x[j,d])**2)*exp(-2*length)\n{tail}",
        length=ONE,
    )
    register(matern, lambda D, nu=nu: kernels.Matern(nu=nu))
    matern_anisotropic = covariance(
        f"matern_{nu}_anisotropic_kernel",
        f"s[i,j] = sum[d]((x[i,d] - x[j,d])**2*exp(-2*length[d]))\n{tail}",
        length=EACH,
    )
    register(matern_anisotropic, lambda D, nu=nu: kernels.Matern(np.ones(D), nu=nu))

rational_quadratic = covariance(
    "rational_quadratic_kernel",
    """
        s[i,j] = sum[d]((x[i,d] - x[j,d])**2)*exp(-2*length)
        K[i,j] = (1 + s[i,j]/(2*exp(alpha)))**(-exp(alpha))
    """,
    alpha=ONE, length=ONE,
)  # fmt: skip
register(rational_quadratic, lambda D: kernels.RationalQuadratic())

exp_sine_squared = covariance(
    "exp_sine_squared_kernel",
    """
        s[i,j] = sum[d]((x[i,d] - x[j,d])**2)
        r[i,j] = where(i == j, 0, sqrt(s[i,j]))
        K[i,j] = exp(-2*sin(pi*r[i,j]*exp(-period))**2*exp(-2*length))
    """,
    length=ONE, period=ONE,
)  # fmt: skip
register(exp_sine_squared, lambda D: kernels.ExpSineSquared())

# A sum, a product and a power, as kernels are put together.
composed = covariance(
    "composed_kernel",
    """
        s[i,j] = sum[d]((x[i,d] - x[j,d])**2)*exp(-2*length)
        K[i,j] = exp(value)*exp(-s[i,j]/2) + (sum[d](x[i,d]*x[j,d]) + exp(2*sigma))**2
                 + where(i == j, exp(noise), 0)
    """,
    value=ONE, length=ONE, sigma=ONE, noise=ONE,
)  # fmt: skip
register(
    composed,
    lambda D: (
        kernels.ConstantKernel() * kernels.RBF() + kernels.DotProduct() ** 2 + kernels.WhiteKernel()
    ),
)
