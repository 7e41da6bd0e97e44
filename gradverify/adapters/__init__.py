"""Layers in other people's conventions, as layers of a spec: `spec.register(pair(f, b))`."""
