"""From YAML and the command line to checked, typed objects. Nothing here needs torch, except to count CUDA devices."""
