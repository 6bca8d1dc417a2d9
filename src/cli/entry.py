"""Makes a function the command of a configuration: Hydra composes it, and mistakes end in a sentence.

Only light libraries are imported here, so that `--help`, `--cfg job` and typing errors answer before PyTorch is loaded.
"""

import functools
import os
import sys
from collections.abc import Callable

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cli.checks import check_groups, check_types, default_config, leaves
from cli.command_line import config_folders, rewrite
from cli.mistakes import explain
from cli.places import CONFIG_DIR, REPOSITORY, SOURCES
from cli.process import prepare_process
from cli.ranks import end_with_launcher, end_with_sweep, log_name, rank, run_id, tell
from cli.run_folder import find_folder
from cli.safe_names import check_names, inside
from cli.secrets import hide_secrets, mask_text
from cli.sweep_jobs import ExplainedError, run_sweep_job

# The run id is kept in the configuration: a launcher takes it to other processes, where it has to stay what it was.
OmegaConf.register_new_resolver("run_id", run_id, replace=True, use_cache=True)
OmegaConf.register_new_resolver("log_name", log_name, replace=True)
OmegaConf.register_new_resolver("of_first_rank", lambda value: None if rank() else value, replace=True)
OmegaConf.register_new_resolver("inside", inside, replace=True)
OmegaConf.register_new_resolver("repository", lambda: str(REPOSITORY), replace=True)


def entry(config_name: str) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Return a decorator that makes `task(cfg)` the command of conf/`config_name`.yaml.

    A user's mistake ends in its message on standard error and exit code 2, any other error in its traceback and 1, an
    interruption in 130. With HYDRA_FULL_ERROR=1 a mistake keeps its traceback too.
    """

    def decorate(task: Callable[[DictConfig], object]) -> Callable[[], None]:
        script = task.__code__.co_filename

        @functools.wraps(task)
        def job(cfg: DictConfig) -> object:
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # a launcher that is not ours calls this
                return run_sweep_job(script)
            end_with_launcher()
            folders = config_folders(sys.argv[1:])
            check_groups(cfg, folders)
            check_types(cfg, default_config(folders))
            check_names(leaves(cfg))
            if "process" in cfg:
                prepare_process(**cfg.process)
            return task(cfg)

        @functools.wraps(task)
        def checked(cfg: DictConfig) -> object:
            full_error = os.environ.pop("HYDRA_FULL_ERROR", None)  # the processes that a job starts do without it
            try:
                return job(cfg)
            except ExplainedError:
                raise  # the sweep goes on, and fails at its end
            except Exception as error:
                sys.exit(tell(error, explain(error, config_name), config_name))
            finally:
                if full_error is not None:
                    os.environ["HYDRA_FULL_ERROR"] = full_error

        def start(task: Callable[[DictConfig], object]) -> None:
            sys.argv[1:] = rewrite(hide_secrets(sys.argv[1:]), config_name)
            find_folder(config_name)
            hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(task)()

        def main() -> None:
            end_with_sweep()
            # Launchers whose processes start elsewhere load this module there.
            paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(SOURCES), *filter(None, paths)]))
            if full_errors():
                return start(job)
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would otherwise print, and we print it
            try:
                return start(checked)
            except KeyboardInterrupt:
                sys.exit(130)
            except ExplainedError as error:  # a job of a sweep has said what was wrong
                sys.exit(f"ERROR: {error}" if str(error) else 1)
            except Exception as error:
                message = explain(error, config_name)
                if message is None:
                    raise
                print(f"ERROR: {mask_text(message)}", file=sys.stderr)
                sys.exit(2)
            finally:
                os.environ.pop("HYDRA_FULL_ERROR", None)

        return main

    return decorate


@functools.cache
def full_errors() -> bool:
    """Return whether the user wants tracebacks. The first call counts: `entry` sets the variable for Hydra later."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
