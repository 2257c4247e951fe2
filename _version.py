"""The one place that knows the version; read by the build, by `--version` and by `systemprompt_cloud.__version__`."""

__version__ = "0.1.0"
