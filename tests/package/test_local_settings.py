"""local.settings.sample.json: every name in it is one that somebody reads, and the app takes its values."""

import json

import pytest

from functions.policy.settings import SETTINGS, SettingsError, read_settings
from tests.package.deployed import REPOSITORY

SAMPLE = json.loads((REPOSITORY / "local.settings.sample.json").read_text(encoding="utf-8"))
VALUES = SAMPLE["Values"]
# Read by the Functions host or by azure-identity, not by policy.SETTINGS.
HOST = {
    "FUNCTIONS_WORKER_RUNTIME",
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
}


def test_every_name_is_read_by_somebody() -> None:
    assert set(VALUES) <= {setting.name for setting in SETTINGS} | HOST
    assert set(VALUES) >= HOST


def test_the_app_takes_it_and_keeps_its_defaults() -> None:
    settings = read_settings(VALUES)
    only_required = {"RECONCILE_SCHEDULE": "0 */5 * * * *", "AzureWebJobsStorage__accountName": "account"}
    defaults = read_settings(only_required)
    for setting in SETTINGS:
        if setting.name.startswith("PATCH_"):
            assert getattr(settings, setting.field) == getattr(defaults, setting.field)
    assert settings.client_id == VALUES["AzureWebJobsStorage__clientId"]


def reading(values: dict[str, str]) -> object:
    """What the app makes of settings: their values, or the names of the wrong ones."""
    try:
        return read_settings(values)
    except SettingsError as error:
        return [problem.name for problem in error.problems]


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.name in VALUES])
def test_a_value_of_the_sample_is_needed(name: str) -> None:
    """Without it the app refuses, or takes another value than the sample's."""
    assert reading({key: value for key, value in VALUES.items() if key != name}) != reading(VALUES)


def test_no_key_is_in_it() -> None:
    assert "AzureWebJobsStorage" not in VALUES
    assert not [value for value in VALUES.values() if "AccountKey" in value or "sig=" in value]
