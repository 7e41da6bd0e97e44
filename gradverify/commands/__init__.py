"""The commands of the command line: one file each, with its options and what it runs."""

from gradverify.commands import (
    audit,
    config,
    derive,
    explain,
    gate,
    listing,
    new,
    prove,
    replay,
    report,
    verify,
)

# In the order in which `gradverify --help` lists them.
COMMANDS = (verify, listing, derive, prove, new, replay, report, explain, audit, gate, config)
