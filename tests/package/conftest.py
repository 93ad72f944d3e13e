"""A folder with exactly what is deployed."""

import shutil
from pathlib import Path

import pytest

from tests.package.deployed import REPOSITORY, core_tools_rule, deployed_files


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `func azure functionapp publish` would send, copied out of the checkout."""
    folder = tmp_path_factory.mktemp("package")
    rule = core_tools_rule((REPOSITORY / ".funcignore").read_text(encoding="utf-8"))
    for path in deployed_files(REPOSITORY, rule):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / path, folder / path)
    return folder
