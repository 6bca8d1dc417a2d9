"""Measure speed and memory: `python src/benchmark.py [parts=[...]] [benchmark=full]`, see conf/benchmark.yaml."""

import sys
from pathlib import Path

from cli.entry import DictConfig, OmegaConf, entry


def benchmark(cfg: DictConfig) -> None:
    """Measure each of `parts`; print its tables, and write tables and figures into the run's folder."""
    # Imported here, so that --help, --cfg and typing errors do not wait for torch.
    import torch

    from soft.benchmark.benchmark_settings import check_benchmark
    from soft.benchmark.reporter import Reporter
    from soft.hardware.devices import choose_accelerator
    from soft.hardware.float32 import multiply_float32_as
    from soft.hardware.machine import describe_machine
    from soft.monitoring.console import quiet_libraries

    quiet_libraries()
    settings = OmegaConf.to_container(cfg, resolve=True)
    check_benchmark(settings, cfg.augments)
    if "loader" in cfg.parts:
        _build_loaders(settings, Path("."))  # refuse wrong data settings before the other parts are measured
    device = torch.device(choose_accelerator(cfg.device, "device"))
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    multiply_float32_as("ieee")
    reporter = Reporter(cfg.output_dir, describe_machine(device))
    reporter.start()
    for part in cfg.parts:
        MEASURE[part](reporter, device, settings)
    reporter.finish()


def measure_attention(reporter, device, settings: dict) -> None:
    """Measure attention in a model's stages, and how the cost of attention and of the pyramid grows with the tokens."""
    from soft.benchmark.attention_growth import measure_growth
    from soft.benchmark.attention_stages import compare_stages
    from soft.benchmark.pyramid_growth import measure_pyramid

    given = settings["attention"]
    compare_stages(reporter, device, *(given[key] for key in ("model", "names", "batch_size", "layouts", "rounds")))
    growth = ("names", "tokens", "slope_from", "num_landmarks", "longest", "rounds")
    measure_growth(reporter, device, *(given[key] for key in growth))
    measure_pyramid(reporter, device, *(given[key] for key in ("model", "pyramid", "most_trained", "rounds")))


def measure_model(reporter, device, settings: dict) -> None:
    """Measure training steps and inference of whole models."""
    from soft.benchmark.model_speed import measure_models

    measure_models(reporter, device, **settings["model"])


def measure_loader(reporter, device, settings: dict) -> None:
    """Measure the speed of this project's training loader and of timm's."""
    import tempfile

    from soft.benchmark.loader_speed import measure_loaders
    from soft.benchmark.photos import write_photos

    given = settings["loader"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(given["root"] or folder)
        if given["root"] is None:
            reporter.step("loader: writing photographs")
            write_photos(root, given["images"], given["size"], given["quality"])
        measure_loaders(reporter, device, _build_loaders(settings, root), root, given["rounds"])


def _build_loaders(settings: dict, root: Path) -> dict:
    """Return a data module for each augmentation that is measured; nothing is read yet."""
    from hydra.utils import instantiate

    given = settings["loader"]
    common = settings["data"] | {"root": str(root), "batch_size": given["batch_size"], "num_workers": 0}
    return {name: instantiate(common | {"augment": settings["augments"][name]}) for name in given["augments"]}


def measure_overhead(reporter, device, settings: dict) -> None:
    """Measure what the framework adds to a training step, and how long a training takes to start."""
    from soft.benchmark.framework_overhead import measure_framework

    command = [sys.executable, str(Path(__file__).with_name("train.py"))]
    given = settings["overhead"]
    measure_framework(reporter, command, given["train"], *(given[key] for key in ("rounds", "steps", "starts")))


def measure_gpu(reporter, device, settings: dict) -> None:
    """Check the GPU path; end with exit code 1 if a figure misses its limit."""
    from soft.benchmark.gpu_check.parts import PARTS
    from soft.benchmark.gpu_check.runner import Check, run_check

    given = settings["gpu"]
    small = device.type != "cuda" if given["small"] is None else given["small"]
    check = Check(device, small, Path(__file__).resolve().parents[1], reporter.folder.absolute())
    if not run_check(reporter, check, PARTS, given["parts"], given["seconds"]):
        reporter.finish()
        raise SystemExit(1)


MEASURE = {
    "attention": measure_attention,
    "model": measure_model,
    "loader": measure_loader,
    "overhead": measure_overhead,
    "gpu": measure_gpu,
}

main = entry("benchmark")(benchmark)

if __name__ == "__main__":
    main()
