"""Whether one version of the trainer is better than another: `kernel-lab trial`."""
