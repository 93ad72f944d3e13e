"""A small Azure Functions host for tests and the simulator; the map of its parts is in host.py."""

from simulator.functions_host.host import FunctionsHost
from simulator.functions_host.indexer import UnsupportedBinding
from simulator.functions_host.state import FunctionState, Invocation
from simulator.functions_host.telemetry import ExceptionItem, Trace
from simulator.functions_host.worker import HostGone

__all__ = ["ExceptionItem", "FunctionState", "FunctionsHost", "HostGone", "Invocation", "Trace", "UnsupportedBinding"]
