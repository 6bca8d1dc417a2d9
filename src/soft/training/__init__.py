"""Training SOFT with Lightning: the module, the optimiser and schedule, callbacks, loggers."""
