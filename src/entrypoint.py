"""The floor that knows Hydra: starts an entry point, and turns a user's mistake into a sentence.

Only light imports here: `--help`, `--cfg job` and typing errors answer before torch is loaded.
"""

import difflib
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

SOURCES = Path(__file__).resolve().parent
CONFIG_DIR = SOURCES.parent / "conf"
# Where parts of the library stand in the configuration, if not under their own names.
PLACES = {"attention": "model.attention"}
STUDIES = "experiments"  # the config group that is a folder beside conf/
# Sibling modules, Hydra plugins and the library are found however the entry point is started.
sys.path.insert(0, str(SOURCES))

from busy import is_busy  # noqa: E402
from jobs import ExplainedError, run_sweep_job  # noqa: E402
from masking import hide_secrets, mask_text  # noqa: E402
from names import UnsafeNameError, check_names, inside  # noqa: E402
from ranks import end_with_launcher, end_with_sweep, log_name, rank, run_id, tell  # noqa: E402
from run_folder import find_folder  # noqa: E402

if is_busy():
    # OpenMP threads spin while they wait for each other, by default for milliseconds. Beside another busy process each
    # then waits for one that has no processor: a small model's step took up to thirty times as long. To spin for
    # microseconds mends that, and costs a third when alone. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# The libraries make hundreds of thousands of objects while they load. To look for garbage among them after each 700,
# Python's default, takes a seventh of a start.
gc.set_threshold(50_000)

# What the user asked for; the variable itself is set below, for Hydra.
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")

# Cached in the configuration: a launcher takes it to other processes, where it has to stay what it was.
OmegaConf.register_new_resolver("run_id", run_id, replace=True, use_cache=True)
OmegaConf.register_new_resolver("log_name", log_name, replace=True)
OmegaConf.register_new_resolver("of_first_rank", lambda value: None if rank() else value, replace=True)
OmegaConf.register_new_resolver("inside", inside, replace=True)
OmegaConf.register_new_resolver("repository", lambda: str(SOURCES.parent), replace=True)


class ConfigError(Exception):
    """A setting that does not fit the configuration; the message is for the user."""


def entry(config_name: str) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Decorator that makes `task(cfg)` a command line of conf/`config_name`.yaml.

    A mistake of the user's ends in its message on standard error and exit code 2, another error in its traceback and 1,
    an interruption in 130. With HYDRA_FULL_ERROR=1 a mistake keeps its traceback too.
    """

    def decorate(task: Callable[[DictConfig], object]) -> Callable[[], None]:
        script = task.__code__.co_filename

        @functools.wraps(task)
        def job(cfg: DictConfig) -> object:
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # called by a launcher that is not ours
                return run_sweep_job(script)
            end_with_launcher()
            check_types(cfg, default_config())
            check_names(leaves(cfg))
            return task(cfg)

        @functools.wraps(task)
        def checked(cfg: DictConfig) -> object:
            full_error = os.environ.pop("HYDRA_FULL_ERROR", None)  # not for the processes that a job starts
            try:
                return job(cfg)
            except ExplainedError:
                raise  # the sweep goes on, and fails at its end
            except Exception as error:
                sys.exit(tell(error, explain(error, config_name), config_name))
            finally:
                if full_error is not None:
                    os.environ["HYDRA_FULL_ERROR"] = full_error

        def main() -> None:
            end_with_sweep()
            sys.argv[1:] = hide_secrets(sys.argv[1:])
            # For launchers whose processes start elsewhere and load this module there.
            paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(SOURCES), *filter(None, paths)]))
            find_folder(CONFIG_DIR, config_name)
            if FULL_ERROR:
                return _hydra_main(job, config_name)
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would otherwise print, and we print it
            try:
                return _hydra_main(checked, config_name)
            except KeyboardInterrupt:
                sys.exit(130)
            except ExplainedError as error:  # of a job of a sweep
                sys.exit(f"ERROR: {error}" if str(error) else 1)
            except Exception as error:
                message = explain(error, config_name)
                if message is None:
                    raise
                print(f"ERROR: {mask_text(message)}", file=sys.stderr)
                sys.exit(2)

        return main

    return decorate


def _hydra_main(task: Callable[[DictConfig], object], config_name: str) -> None:
    hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(task)()


def default_config() -> DictConfig:
    """This job's configuration without its values: the chosen groups with their defaults."""
    hydra_config = HydraConfig.get()
    groups = [text for text in hydra_config.overrides.task if _is_group(text.lstrip("+").split("=")[0])]
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration(hydra_config.job.config_name, overrides=groups, run_mode=RunMode.RUN)


def check_types(cfg: DictConfig, defaults: DictConfig) -> None:
    """Refuse a value whose type is not its default's: `schedule.epochs=many`. A default of null takes anything."""
    for key, default in leaves(defaults):
        root = key.split(".")[0]
        if OmegaConf.is_missing(cfg, root):
            raise ConfigError(f"{root} has no value; add {root}=...")
        if root not in cfg:
            raise ConfigError(f"A run needs {root}; leave out ~{root}.")
        if default is None:
            continue
        value = OmegaConf.select(cfg, key)
        if value is None or value == default:
            continue
        expected = _TYPES.get(type(default))
        if expected is None or value == "auto" or isinstance(value, ListConfig):
            continue  # words and lists are checked by what they are given to
        if not isinstance(value, expected[0]) or isinstance(value, bool) != isinstance(default, bool):
            raise ConfigError(f"{key}={value} has to be {expected[1]}, such as {default}.")


_TYPES = {bool: (bool, "true or false"), int: (int, "a whole number"), float: ((int, float), "a number")}


def leaves(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of everything in `cfg` but Hydra's own node, interpolations resolved."""
    for name in cfg:
        if not prefix and name == "hydra":
            continue
        key = f"{prefix}{name}"
        if OmegaConf.is_missing(cfg, name):
            yield key, None
            continue
        try:
            value = cfg[name]
        except OmegaConfBaseException:  # an interpolation into what only a running job has
            value = None
        if isinstance(value, DictConfig):
            yield from leaves(value, f"{key}.")
        else:
            yield key, OmegaConf.to_container(value) if isinstance(value, ListConfig) else value


def explain(error: Exception, config_name: str) -> str | None:
    """One or two sentences for an error that the user can mend, None for any other."""
    library = sys.modules.get("soft.errors")  # not loaded yet: not the library's error
    chain: BaseException | None = error
    while chain is not None:  # Hydra wraps what a constructor raises
        if library and isinstance(chain, (library.SettingError, library.RunError)):
            return chain.as_settings(PLACES)
        if isinstance(chain, (ConfigError, UnsafeNameError)):
            return str(chain)
        chain = chain.__cause__
    if isinstance(error, InstantiationException):
        return None
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_overrides(config_name) or " ".join(str(error.__cause__ or error).split())
    return None


def _explain_overrides(config_name: str) -> str | None:
    """What is wrong with the first override that names no group, option or key, and the nearest ones that exist."""
    words = [word for word in sys.argv[1:] if "=" in word or word.startswith("~")]
    known: list[str] | None = None
    for word in words:
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException:
            return f"{word!r} is not of the form key=value; put quotes around values with spaces or brackets."
        key = override.key_or_group
        if key.startswith("hydra"):
            continue
        if _is_group(key):
            options = group_options(key)
            for value in word.partition("=")[2].split(","):  # several in a sweep
                if value not in (*options, "null"):
                    return f"{key}={value} is not known{_nearest(value, options)} {key} is one of {', '.join(options)}."
            if override.type == OverrideType.CHANGE and not _known_keys(config_name, [word]):
                own = [name for name in _known_keys(config_name, []) if name.startswith(f"{key}.")]
                return f"{word} is not for this command; its settings are {', '.join(own) or 'in --help'}."
        elif override.type == OverrideType.CHANGE:
            if known is None:
                known = _known_keys(config_name, [w for w in words if _is_group(w.split("=")[0])])
            if known and key not in known and not any(name.startswith(f"{key}.") for name in known):
                return f"{key} is not a setting{_nearest(key, [*known, *_groups()])}"
    return None


def _known_keys(config_name: str, groups: list[str]) -> list[str]:
    groups = [word for word in groups if "," not in word]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            cfg = hydra.compose(config_name, overrides=groups)
        except HydraException:
            return []
    return [key for key, _ in leaves(cfg)]


def _nearest(word: str, names: list[str]) -> str:
    # The right name in the wrong place (epochs for schedule.epochs), then the nearest spelling.
    moved = [name for name in names if "." in name and name.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]]
    close = list(dict.fromkeys([*moved, *difflib.get_close_matches(word, names, n=3, cutoff=0.5)]))[:3]
    return f"; did you mean {' or '.join(close)}?" if close else "."


def _is_group(name: str) -> bool:
    return bool(name) and _group_folder(name).is_dir()


def _groups() -> list[str]:
    return [str(path.relative_to(CONFIG_DIR)) for path in sorted(CONFIG_DIR.rglob("*")) if path.is_dir()] + [STUDIES]


def _group_folder(group: str) -> Path:
    name = group.split("@")[0]
    return (SOURCES.parent if name == STUDIES else CONFIG_DIR) / name


def group_options(group: str) -> list[str]:
    """Names that `group=` takes."""
    return sorted(path.stem for path in _group_folder(group).glob("*.yaml"))
