"""A scripted person at a browser; the local cloud's demo has the same one."""

from ..sandbox.browser import ScriptedBrowser

__all__ = ["ScriptedBrowser"]
