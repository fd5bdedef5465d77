"""Claims: checked and registered before training, then judged by the seeds that they are about."""
