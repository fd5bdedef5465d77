"""From YAML and the command line to checked, typed objects. Nothing here imports torch."""
