"""Make the W&B workspace and reports: `python src/dashboard.py [entity=TEAM] [study=NAME]`, see conf/dashboard.yaml."""

from cli.entry import DictConfig, entry
from cli.places import SOURCES, STUDIES


def dashboard(cfg: DictConfig) -> None:
    """Create the project's workspace and a report for each study, or print what would be created."""
    # Imported here, so that --help, --cfg and mistyped settings do not wait for these libraries.
    import json

    from soft.errors import SettingError
    from soft.monitoring.wandb_logger import has_wandb_login
    from soft.settings import as_text, check_choice
    from soft.studies.study import read_studies
    from soft.studies.workspace import build_report, build_workspace, outline, to_json

    check_choice("print", cfg.print, ("summary", "json"))
    project, given = as_text("project", cfg.project), None if cfg.entity is None else as_text("entity", cfg.entity)
    dry_run = cfg.dry_run or not has_wandb_login()
    entity = given or ("YOUR-ENTITY" if dry_run else _default_entity())
    views = [build_report(study, entity, project) for study in read_studies(SOURCES.parent / STUDIES, cfg.study)]
    if cfg.study is None:
        views.insert(0, build_workspace(entity, project))
    if dry_run and cfg.print == "json":
        print(json.dumps([to_json(view) for view in views], indent=2))
    elif dry_run:
        for view in views:
            print("\n".join(outline(view)), end="\n\n")
        why = "dry_run=true" if cfg.dry_run else "there is no login (`wandb login` or WANDB_API_KEY)"
        print(f"Nothing was created, because {why}. print=json shows what W&B would be sent.")
    else:
        import wandb

        for view in views:
            try:
                view.save()
            except (wandb.errors.Error, ValueError) as error:
                raise SettingError(
                    f"W&B refused this for entity={entity} project={project}: {error}; dry_run=true only prints."
                ) from error
            print(view.url)


def _default_entity() -> str:
    import wandb

    from soft.errors import SettingError

    try:
        return wandb.Api().default_entity
    except wandb.errors.Error as error:
        raise SettingError(f"W&B does not say whose account this is: {error}. Name it with entity=TEAM.") from error


main = entry("dashboard")(dashboard)

if __name__ == "__main__":
    main()
