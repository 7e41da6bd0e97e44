"""The names of all checks, in the order in which they run; cheap to import."""

NAMES = ("contract", "forward", "symbolic", "finite_difference", "kinks", "buffers", "descent")

# Without a definition these cannot be asked, and the verdict is "verified without a definition".
NEED_DEFINITION = ("forward", "symbolic", "kinks")
