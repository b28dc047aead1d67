"""Whoever wrote the plugin must act: status 1."""

from fedvol.errors.base import FedvolError


class PluginError(FedvolError):
    """A plugin failed or is not allowed by the site."""

    code = "FV-PLUG-000"
    title = "plugin unusable"
