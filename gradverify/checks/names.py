"""The names of all checks, in the order in which they run; cheap to import."""

NAMES = ("contract", "forward", "symbolic", "finite_difference", "exact", "kinks", "buffers",
         "descent")  # fmt: skip

# Without a definition these cannot be asked, and the verdict is "verified without a definition".
NEED_DEFINITION = ("forward", "symbolic", "kinks")

# These a layer may be written so that they cannot be asked; the verdict does without them then.
MAY_BE_UNAVAILABLE = ("exact",)
