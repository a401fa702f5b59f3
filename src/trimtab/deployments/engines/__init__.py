"""Local engines that `process` replicas can be run on."""
