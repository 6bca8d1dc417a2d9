"""Table and figures of a sweep: `python src/report.py sweep=DIR [out=DIR]`, settings in conf/report.yaml."""

from cli.entry import DictConfig, entry


def report(cfg: DictConfig) -> None:
    """Write the report and print its table."""
    # Imported here, so that --help, --cfg and typing errors do not wait.
    from pathlib import Path

    from soft.studies.sweep_report import write_report

    print(write_report(cfg.sweep, cfg.out, cfg.page), flush=True)
    print(f"\nreport: {Path(cfg.out) / ('report.html' if cfg.page else 'report.md')}")


main = entry("report")(report)

if __name__ == "__main__":
    main()
