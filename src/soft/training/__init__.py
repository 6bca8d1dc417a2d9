"""Training of SOFT with Lightning: the module, its optimiser and schedule, and what guards its steps."""
