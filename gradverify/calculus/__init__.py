"""What follows from statements: derivatives, readable NumPy, exact values, printed equations."""
