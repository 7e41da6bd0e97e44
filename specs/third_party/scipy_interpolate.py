"""Splines of scipy.interpolate, which give their derivative at a point, and its own.

de Boor 2001, "A practical guide to splines". There is no definition: a spline reads the knots
between which a point lies, and the notation has no such search.
"""

import numpy as np
from scipy.interpolate import (
    Akima1DInterpolator,
    BSpline,
    CubicSpline,
    PchipInterpolator,
    make_interp_spline,
)

from gradverify import Input, Output, Param, Spec

KNOTS = np.array([0.0, 0.7, 1.1, 2.0, 2.6, 3.5, 4.0])
HEIGHTS = np.array([0.3, -1.2, 0.8, 0.9, -0.4, 1.7, 0.2])
MAKERS = {
    "cubic_spline": CubicSpline,
    "pchip": PchipInterpolator,
    "akima": Akima1DInterpolator,
    "quintic_spline": lambda x, y: make_interp_spline(x, y, k=5),
}

spline_at = Spec("spline_at", x=Input("N", range="0..4"), y=Output("N"))

for name, make in MAKERS.items():
    spline = make(KNOTS, HEIGHTS)

    # A spline is evaluated in double precision.
    @spline_at.register(name=f"scipy_{name}", dtypes=["float64"])
    def at(x, spline=spline):
        return spline(x), lambda dy: {"x": dy * spline(x, 1)}


# By its coefficients a spline is linear: the matrix of its basis at the points.
spline_of = Spec(
    "spline_of",
    x=Input("N", range="0..4"),
    c=Param("K+4"),
    y=Output("N"),
    where=["N >= 1"],  # the matrix of no point is refused
)


@spline_of.register(dtypes=["float64"])
def scipy_b_spline(x, c):
    inner = np.linspace(0, 4, len(c) - 2)
    knots = np.concatenate([[0, 0, 0], inner, [4, 4, 4]])
    spline = BSpline(knots, c, 3)
    basis = BSpline.design_matrix(np.ascontiguousarray(x), knots, 3)
    return spline(x), lambda dy: {"x": dy * spline(x, 1), "c": basis.T @ dy}
