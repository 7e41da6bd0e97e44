"""What the tests of replay lines share: they are read off printed text, and run in this process."""

import re
import shlex
from typing import NamedTuple

from gradverify.cli import main


class Printed(NamedTuple):
    """A finding as it was printed."""

    headline: str  # FAILED layer · check · tensor
    question: str
    got: str
    replay: str

    @property
    def same(self):
        """What has to be there again."""
        return self.headline, self.question, self.got


def printed(text):
    """Return the findings that a report shows."""
    found = []
    for block in text.split("\n\n"):
        if block.startswith(("FAILED", "warning")):
            fields = dict(re.findall(r"^  (question|got|replay) +(.*)$", block, re.MULTILINE))
            found.append(Printed(block.splitlines()[0], fields["question"],
                                 fields.get("got", ""), fields["replay"]))  # fmt: skip
    return found


def run(line, capsys):
    """Run a replay line as a shell would; return its exit code and the findings it prints."""
    capsys.readouterr()
    program, *arguments = shlex.split(line)
    assert program == "gradverify"
    code = main(arguments)
    return code, printed(capsys.readouterr().out)
