"""The CI gate: which layers a change reaches, which are new or unregistered, and the policy."""

CHECK = "gate"  # stands where a finding names its check
