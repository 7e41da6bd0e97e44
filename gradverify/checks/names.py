"""The names of all checks, in the order in which they run."""

NAMES = ("contract", "forward", "symbolic", "finite_difference", "exact", "forward_mode",
         "second_order", "kinks", "buffers", "descent")  # fmt: skip
