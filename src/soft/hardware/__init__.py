"""What a run needs of the machine: devices, kernels, batch layout. Knows neither models nor data."""
