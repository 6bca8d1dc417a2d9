"""Lets configurations read what the library knows of each data set.

In a list of defaults, `/facts/digits@data` is src/soft/data/facts/digits.yaml.
"""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

FOLDER = Path(__file__).resolve().parents[1] / "soft" / "data"


class DataFacts(SearchPathPlugin):
    """Adds the folder that holds the group `facts` to the search path of every command."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="soft", path=f"file://{FOLDER}")
