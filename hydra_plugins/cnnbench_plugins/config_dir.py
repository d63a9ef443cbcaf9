"""The user's folder of YAMLs (``--config-dir``) in Hydra's search path, after ours."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class OwnConfigDir(SearchPathPlugin):
    """Adds the folder to all that Hydra composes, in any process."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        from cnnbench.config.groups import own_configs

        if (folder := own_configs()) is not None:
            search_path.append("cnnbench --config-dir", str(folder))
