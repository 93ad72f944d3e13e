"""A small Azure Functions host for tests and the simulator; see host.py."""

from simulator.functions_host.host import FunctionsHost, FunctionState, Invocation, UnsupportedBinding
from simulator.functions_host.telemetry import ExceptionItem, Trace
from simulator.functions_host.worker import HostGone

__all__ = ["ExceptionItem", "FunctionState", "FunctionsHost", "HostGone", "Invocation", "Trace", "UnsupportedBinding"]
