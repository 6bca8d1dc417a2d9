"""Makes a function a command: Hydra composes its configuration, and a user's mistake ends in a sentence.

Only light libraries are imported here, so that `--help`, `--cfg job` and typing errors answer before PyTorch is loaded.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from cli.checkpoint_model import add_checkpoint_model
from cli.checks import check_folders, check_groups, check_keys, check_types, default_config, leaves
from cli.command_line import config_folders, parse, rewrite
from cli.help import help_text
from cli.mistakes import explain
from cli.places import CONFIG_DIR, REPOSITORY, SOURCES
from cli.process import prepare_process, print_any_name
from cli.ranks import REFUSED, end_with_launcher, end_with_sweep, log_name, rank, run_id, tell
from cli.run_folder import find_folder, remove_refused
from cli.safe_names import check_names, inside
from cli.secrets import hide_secrets, mask_text
from cli.sweep_jobs import ExplainedError, check_typed_folders, run_sweep_job

# Cached in the configuration, because a launcher hands that to other processes, where the run id must not change.
OmegaConf.register_new_resolver("run_id", run_id, replace=True, use_cache=True)
OmegaConf.register_new_resolver("log_name", log_name, replace=True)
OmegaConf.register_new_resolver("of_first_rank", lambda value: None if rank() else value, replace=True)
OmegaConf.register_new_resolver("inside", inside, replace=True)
OmegaConf.register_new_resolver("repository", lambda: str(REPOSITORY), replace=True)

STARTED = time.time()

# Commands import the names of OmegaConf from here, after the check that it is installed (`cli.extras`).
__all__ = ["DictConfig", "ListConfig", "OmegaConf", "entry", "full_errors", "hydra"]


def entry(config_name: str) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Return a decorator that makes `task(cfg)` the command of conf/`config_name`.yaml.

    A user's mistake ends in its message on standard error and exit code 2, a run that cannot go on (`RunError`) in its
    message and 1, any other error in its traceback and 1, an interruption in 130. With HYDRA_FULL_ERROR=1, all errors
    keep their tracebacks.
    """

    def decorate(task: Callable[[DictConfig], object]) -> Callable[[], None]:
        script, script_module = task.__code__.co_filename, task.__module__

        @functools.wraps(task)
        def job(cfg: DictConfig) -> object:
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # a launcher that is not ours calls this
                return run_sweep_job(script)
            end_with_launcher()
            folders = config_folders(sys.argv[1:])
            return checked_task(cfg, default_config(folders), folders)

        def checked_task(cfg: DictConfig, defaults: DictConfig, folders: Sequence[Path]) -> object:
            """Check the composed configuration, prepare the process and do the command."""
            check_groups(cfg, folders)
            check_keys(cfg, defaults, folders)
            check_types(cfg, defaults)
            settings = list(leaves(cfg))
            check_names(settings)
            check_folders(settings)
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
                code = tell(error, explain(error, config_name), config_name)
                job_config = HydraConfig.get()
                # The folder of a sweep's job stays, because the sweep refers to the log in it.
                if code == REFUSED and not rank() and OmegaConf.is_missing(job_config.job, "num"):
                    remove_refused(Path(job_config.runtime.output_dir), STARTED)
                sys.exit(code)
            finally:
                if full_error is not None:
                    os.environ["HYDRA_FULL_ERROR"] = full_error

        def start(task: Callable[[DictConfig], object]) -> None:
            words = rewrite(hide_secrets(sys.argv[1:]), config_name)
            if parse(words).help:
                summary = (sys.modules[script_module].__doc__ or "").partition(": `")[0]
                return print(help_text(config_name, f"{summary}.", parse(words).overrides))
            if parse(words).multirun:
                check_typed_folders(parse(words).overrides)
            sys.argv[1:] = words
            add_checkpoint_model(config_name)
            find_folder(config_name)
            hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(task)()

        def main() -> None:
            print_any_name()
            end_with_sweep()
            # Launchers may start processes elsewhere, which have to find this module.
            paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(SOURCES), *filter(None, paths)]))
            if full_errors():
                return start(job)
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would otherwise print, and we print it
            try:
                return start(checked)
            except KeyboardInterrupt:
                sys.exit(130)
            except BrokenPipeError:  # the reader of the output, such as `| head`, has stopped reading
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(128 + signal.SIGPIPE)
            except ExplainedError as error:  # a job of a sweep has said what was wrong
                sys.exit(f"ERROR: {error}" if str(error) else 1)
            except Exception as error:
                message = explain(error, config_name)
                if message is None:
                    raise
                print(f"ERROR: {mask_text(message)}", file=sys.stderr)
                sys.exit(REFUSED)
            finally:
                os.environ.pop("HYDRA_FULL_ERROR", None)

        main.run = checked_task
        return main

    return decorate


@functools.cache
def full_errors() -> bool:
    """Return whether the user wants tracebacks. The first call counts: `entry` sets the variable for Hydra later."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
