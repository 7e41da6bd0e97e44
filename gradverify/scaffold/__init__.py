"""A spec file to start from: what a function takes and returns is observed by calling it."""
