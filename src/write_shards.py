"""Write class folders into WebDataset shards: `python src/write_shards.py data.root=... out=...`.

Settings in conf/write_shards.yaml.
"""

from omegaconf import DictConfig

from cli.command_line import as_typed
from cli.entry import entry


def write(cfg: DictConfig) -> None:
    """Write shards for `data=imagenet_wds` into `cfg.out`; go on where an interrupted call stopped."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    from pathlib import Path

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from soft.data.shard_writer import plan_shards, write_shards
    from soft.errors import SettingError

    if cfg.data.dataset != "imagenet":
        raise SettingError(f"data={cfg.data.dataset} is not read from class folders; use data=imagenet.")
    out = Path(cfg.out).expanduser()
    console = Console(stderr=True)
    with console.status("listing the images"):
        plan = plan_shards(Path(cfg.data.root).expanduser(), out, cfg.shard_size, cfg.shuffle, cfg.seed)
    for note in plan.notes:
        console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)
    bar = (BarColumn(bar_width=None), DownloadColumn(True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*bar, console=console) as progress:
        task = progress.add_task("writing", total=plan.size)
        write_shards(plan, out, out, lambda size: progress.update(task, advance=size))
    print(f"{len(plan.shards)} shards are in {out}: python src/train.py data=imagenet_wds {as_typed('data.root', out)}")


main = entry("write_shards")(write)

if __name__ == "__main__":
    main()
