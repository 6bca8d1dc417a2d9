"""The machine that a run uses: devices, launcher, batch layout, memory. Imports neither models nor data."""
