"""Functions of scipy.special that come with their derivative, each with respect to its argument.

Most have no definition: the notation has no Bessel functions and their like.
"""

import numpy as np
from scipy import special

from gradverify import Constant, Input, Output, Spec

# Whole orders, and others.
WHOLE = Constant(0, 1, 3)
REAL = Constant(0.0, 0.5, 2.3)


def register(name, pair, *, range="-6..6", definition=None, dtypes=None, **constants):
    """Register a function of each element of x; `pair` returns its values and derivatives."""
    spec = Spec(name, x=Input("N", range=range), y=Output("N"), definition=definition, **constants)

    def layer(x, **constants):
        value, slope = pair(x, **constants)
        return value, lambda dy: {"x": dy * slope}

    spec.register(layer, name=f"scipy_{name}", dtypes=dtypes)


register("gammaln", lambda x: (special.gammaln(x), special.psi(x)), range="0.1..9",
         definition="y[n] = lgamma(x[n])")  # fmt: skip

# Functions of float32 are float32, and their derivatives float64: so here, and down to Legendre's.
register("psi", lambda x: (special.psi(x), special.polygamma(1, x)), range="0.1..9",
         dtypes=["float64"], definition="y[n] = digamma(x[n])")  # fmt: skip


def bessel(letter):
    value, derivative = getattr(special, f"{letter}v"), getattr(special, f"{letter}vp")
    register(f"bessel_{letter}", lambda x, order: (value(order, x), derivative(order, x)),
             range="0.5..9", order=REAL, dtypes=["float64"])  # fmt: skip


def spherical(letter):
    value = getattr(special, f"spherical_{letter}n")
    register(f"spherical_{letter}",
             lambda x, order: (value(order, x), value(order, x, derivative=True)),
             range="0.5..9", order=WHOLE, dtypes=["float64"])  # fmt: skip


for letter in "jyik":
    bessel(letter)
    spherical(letter)

register("legendre", lambda x, order: special.legendre_p(order, x, diff_n=1), range="-1..1",
         order=WHOLE, dtypes=["float64"])  # fmt: skip

register("airy_ai", lambda x: special.airy(x)[:2])
register("airy_bi", lambda x: special.airy(x)[2:], range="-6..3")
register("kelvin_ber", lambda x: (special.ber(x), special.berp(x)))
register("kelvin_kei", lambda x: (special.kei(x), special.keip(x)), range="0.5..6")
register("parabolic_cylinder", lambda x, order: special.pbdv(order, x), range="-3..3", order=REAL)


def mathieu(x, order):
    value, slope = special.mathieu_cem(order, 1.5, x)
    return value, slope * np.pi / 180  # it takes degrees, and its derivative is by radians


# In float32 it is nan.
register("mathieu_ce", mathieu, range="-180..180", order=WHOLE, dtypes=["float64"])
