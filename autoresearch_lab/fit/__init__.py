"""Which shape of the trainer suits this machine: `kernel-lab fit`."""
