"""Write the report of a sweep or a run: `python src/report.py sweep=DIR` or `run=DIR`, settings in conf/report.yaml."""

from cli.entry import DictConfig, entry


def report(cfg: DictConfig) -> None:
    """Write the report; print its table for a sweep, or its main facts for a run."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for PyTorch.
    from pathlib import Path

    from cli.checks import default_settings
    from cli.evaluate_run import evaluate_run
    from cli.recorded import training_command
    from soft.errors import SettingError
    from soft.runs.folder import from_here

    if bool(cfg.sweep) == bool(cfg.run):
        given = "both were given" if cfg.sweep else "neither was given"
        raise SettingError(f"report takes either sweep=DIR or run=DIR, and {given}; name the folder of one of them.")
    out = Path(cfg.out or Path(cfg.sweep or cfg.run) / "report").expanduser().absolute()
    if cfg.sweep:
        if others := [name for name in ("evaluate", "evaluation", "maps") if cfg[name]]:
            raise SettingError(f"{others[0]} is for the page of one run, run=DIR; leave it out for a sweep.")
        from soft.studies.sweep_report import write_report

        print(write_report(cfg.sweep, out, cfg.page), flush=True)
        print(f"\nreport: {from_here(out / ('report.html' if cfg.page else 'report.md'))}")
        return
    if not cfg.page:
        raise SettingError("page=false leaves nothing to write of a run, whose report is its page; leave it out.")

    from soft.studies.run_report import PAGE, write_run_page
    from soft.studies.single_run import read_single_run

    run = read_single_run(cfg.run)
    if cfg.evaluate:
        evaluate_run(run)
    evaluation, maps = (None if cfg[name] is None else Path(cfg[name]).expanduser() for name in ("evaluation", "maps"))
    written = ("evaluate/**/evaluation.json", "visualize/**/attention_maps.json")
    elsewhere = [path.parent for pattern in written for path in Path("outputs").glob(pattern)]
    command = training_command(str(run.folder))
    print(write_run_page(run, out, default_settings("train"), command, evaluation, maps, elsewhere), flush=True)
    print(f"\nreport: {from_here(out / PAGE)}")


main = entry("report")(report)

if __name__ == "__main__":
    main()
