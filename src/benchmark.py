"""Measure speed and memory: `python src/benchmark.py [parts=[...]] [benchmark=full]`, see conf/benchmark.yaml."""

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from entrypoint import entry


def benchmark(cfg: DictConfig) -> None:
    """Measures each of `parts`; shows its tables and writes them, and figures, into the run's folder."""
    # Imported here, so that --help, --cfg and typing errors do not wait for torch.
    import torch

    from soft.benchmark.machine import describe_machine
    from soft.benchmark.report import Report
    from soft.benchmark.settings import check_settings
    from soft.hardware.devices import choose_accelerator
    from soft.training.console import quiet_libraries

    quiet_libraries()
    settings = OmegaConf.to_container(cfg, resolve=True)
    check_settings(settings, cfg.augments)
    device = torch.device(choose_accelerator(cfg.device, "device"))
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    report = Report(cfg.output_dir, describe_machine(device))
    report.start()
    for part in cfg.parts:
        MEASURE[part](report, device, settings)
    report.finish()


def measure_attention(report, device, settings: dict) -> None:
    """Stages of a model, growth with the tokens, growth of the pyramid."""
    from soft.benchmark.pyramid import measure_pyramid
    from soft.benchmark.scaling import measure_growth
    from soft.benchmark.stages import compare_stages

    given = settings["attention"]
    compare_stages(report, device, *(given[key] for key in ("model", "names", "batch_size", "layouts", "rounds")))
    growth = ("names", "tokens", "slope_from", "num_landmarks", "longest", "rounds")
    measure_growth(report, device, *(given[key] for key in growth))
    measure_pyramid(report, device, *(given[key] for key in ("model", "pyramid", "most_trained", "rounds")))


def measure_model(report, device, settings: dict) -> None:
    """Training steps and inference of whole models."""
    from soft.benchmark.models import measure_models

    measure_models(report, device, **settings["model"])


def measure_loader(report, device, settings: dict) -> None:
    """The training loader beside timm's."""
    import tempfile

    from hydra.utils import instantiate

    from soft.benchmark import loader
    from soft.benchmark.photos import write_photos

    given = settings["loader"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(given["root"] or folder)
        if given["root"] is None:
            report.step("loader: writing photographs")
            write_photos(root, given["images"], given["size"], given["quality"])
        modules = {
            name: instantiate(
                settings["data"]
                | {"augment": settings["augments"][name], "root": str(root), "batch_size": given["batch_size"]}
                | {"num_workers": 0}
            )
            for name in given["augments"]
        }
        loader.measure_loaders(report, device, modules, root, given["rounds"])


def measure_overhead(report, device, settings: dict) -> None:
    """The framework around a training step, and its start."""
    from soft.benchmark import overhead

    command = [sys.executable, str(Path(__file__).with_name("train.py"))]
    given = settings["overhead"]
    overhead.measure_overhead(report, command, given["train"], *(given[key] for key in ("rounds", "steps", "starts")))


MEASURE = {
    "attention": measure_attention,
    "model": measure_model,
    "loader": measure_loader,
    "overhead": measure_overhead,
}

main = entry("benchmark")(benchmark)

if __name__ == "__main__":
    main()
