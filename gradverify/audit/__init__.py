"""audit: how strong the checks are, measured by planting faults in a layer's own gradients."""
