"""The equation language: text to expression trees to statements of one form; no numpy, no sympy."""
