"""Real systemd machines for the tests: sshd, nginx, llama-server and GPUs that NVML reports."""
