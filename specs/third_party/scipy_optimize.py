"""Rosenbrock's function and the robust losses of least squares, as scipy.optimize has them.

Both come with second derivatives, each a double backward here. Rosenbrock 1960, "An automatic
method for finding the greatest or least value of a function"; Triggs et al. 2000, "Bundle
adjustment: a modern synthesis", section 3.3.
"""

import numpy as np
from scipy.optimize import rosen, rosen_der, rosen_hess_prod
from scipy.optimize._lsq.least_squares import IMPLEMENTED_LOSSES

from gradverify import Input, Output, Spec
from gradverify.adapters import value_and_grad

rosenbrock = Spec(
    "rosenbrock",
    x=Input("N+1"),
    y=Output(""),
    ranges={"n": "N"},
    definition="y = sum[n](100*(x[n+1] - x[n]**2)**2 + (1 - x[n])**2)",
)


def rosenbrock_double_vjp(tensors, cotangents, seeds, constants):
    x, along = tensors["x"], seeds["x"]
    return {"x": cotangents["y"] * rosen_hess_prod(x, along)}, {"y": rosen_der(x) @ along}


rosenbrock.register(
    value_and_grad(rosen, rosen_der), name="scipy_rosenbrock", double_vjp=rosenbrock_double_vjp
)


def register(name, definition):
    """Register a loss of squares z, which comes with both of its derivatives."""
    spec = Spec(name, z=Input("N", range="0..50"), loss=Output("N"),
                definition=f"loss[n] = {definition}")  # fmt: skip

    def evaluated(z):
        rho = np.empty((3, *z.shape), z.dtype)
        IMPLEMENTED_LOSSES[name](z, rho, cost_only=False)
        return rho

    def layer(z):
        value, slope, _ = evaluated(z)
        return value, lambda dloss: {"z": dloss * slope}

    def double_vjp(tensors, cotangents, seeds, constants):
        _, slope, curvature = evaluated(tensors["z"])
        along = seeds["z"]
        return {"z": cotangents["loss"] * curvature * along}, {"loss": slope * along}

    spec.register(layer, name=f"scipy_{name}", double_vjp=double_vjp)


register("huber", "where(z[n] <= 1, z[n], 2*sqrt(z[n]) - 1)")
register("soft_l1", "2*(sqrt(1 + z[n]) - 1)")
register("cauchy", "log1p(z[n])")
register("arctan", "atan(z[n])")
