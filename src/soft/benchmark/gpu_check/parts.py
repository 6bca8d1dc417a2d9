"""The parts of the check by name, each with its deadline."""

from soft.benchmark.gpu_check.environment import measure_environment
from soft.benchmark.gpu_check.measured import Part
from soft.benchmark.gpu_check.numbers import measure_numbers
from soft.benchmark.gpu_check.speed import measure_convolutions, measure_cores, measure_newton, measure_steps
from soft.benchmark.gpu_check.step_memory import measure_memory
from soft.benchmark.gpu_check.training import measure_loader, measure_training
from soft.benchmark.gpu_check.waits import measure_waits

PARTS: dict[str, tuple[Part, float]] = {  # the deadlines in seconds are for an H100, with room
    "environment": (measure_environment, 20),
    "numbers": (measure_numbers, 40),
    "waits": (measure_waits, 60),
    "cores": (measure_cores, 40),
    "newton": (measure_newton, 20),
    "convolutions": (measure_convolutions, 40),
    "steps": (measure_steps, 200),
    "memory": (measure_memory, 60),
    "loader": (measure_loader, 40),
    "training": (measure_training, 120),
}
