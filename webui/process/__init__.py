"""The engine in a process of its own: this side of the pipe, and the engine's."""

from webui.process.child import Build, Report
from webui.process.messages import EngineStatus, Phase
from webui.process.parent import EngineProcess

__all__ = ["Build", "EngineProcess", "EngineStatus", "Phase", "Report"]
