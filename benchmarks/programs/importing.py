"""Imports and nothing else: what a cold start pays before the first event."""

from benchmarks.programs import tell


def host_library() -> None:
    """The floor: the library that every Python app on Azure Functions imports."""
    import azure.functions  # noqa: F401

    tell()


def app() -> None:
    """The app as the worker indexes it."""
    import function_app

    assert len(function_app.app.get_functions()) >= 6
    tell()


def every_room() -> None:
    """The app with all that any trigger imports, but for the SDK."""
    import function_app
    import functions.services  # noqa: F401
    from functions.steps import assess, install, poison, reconcile  # noqa: F401

    assert len(function_app.app.get_functions()) >= 6
    tell()


def packages() -> None:
    """The floor of the first event with the packages that it uses: their imports, and not a line of the app."""
    import aiohttp  # noqa: F401
    import azure.data.tables.aio
    import azure.functions
    import azure.identity.aio
    import azure.mgmt.compute.aio  # noqa: F401

    tell()


def custodian() -> None:
    """Cloud Custodian, ready to act on virtual machines: its provider, a policy, and the client of that policy."""
    from c7n.config import Config
    from c7n.policy import PolicyCollection
    from c7n.resources import load_resources

    load_resources(("azure.vm",))
    policies = PolicyCollection.from_data(
        {"policies": [{"name": "bench", "resource": "azure.vm"}]}, Config.empty(), session_factory=None
    )
    from c7n_azure.session import Session

    manager = next(iter(policies)).resource_manager
    Session(subscription_id="00000000-0000-0000-0000-000000000001").client(
        f"{manager.resource_type.service}.{manager.resource_type.client}"
    )
    tell()
