"""Which app is meant: what was found once is remembered in a file of the person's own.

`$XDG_CONFIG_HOME/image-patcher/profile.json` (by default in `~/.config`) holds names and ids, no secret and no setting.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from patcher.errors import BadRequest

VERSION = 1
DEFAULT = "default"


def folder() -> Path:
    """Where the files of this tool are. The simulator writes its own address there, too (simulator/__main__.py)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "image-patcher"


@dataclass(frozen=True)
class Profile:
    """One app: the id of its function app, and Resource Manager's address."""

    site: str
    arm_endpoint: str = "https://management.azure.com"

    @property
    def app(self) -> str:
        return self.site.rsplit("/", 1)[-1]


def load(name: str) -> Profile | None:
    """The profile of this name; None where there is none. Raises BadRequest for a file that cannot be read."""
    known = _read().get(name)
    if known is None:
        return None
    try:
        return Profile(str(known["site"]), str(known["arm_endpoint"]))
    except (KeyError, TypeError):
        raise _unreadable() from None


def save(name: str, profile: Profile) -> None:
    """Adds or replaces one profile. The file is the person's alone."""
    profiles = {**_read(), name: asdict(profile)}
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps({"version": VERSION, "profiles": profiles}, indent=1), encoding="utf-8")
    fresh.replace(path)


def _path() -> Path:
    return folder() / "profile.json"


def _read() -> Mapping[str, dict[str, str]]:
    try:
        content = json.loads(_path().read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise BadRequest(f"{_path()} has version {content['version']}; this tool reads {VERSION}")
        profiles: dict[str, dict[str, str]] = dict(content["profiles"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise _unreadable() from None
    return profiles


def _unreadable() -> BadRequest:
    return BadRequest(f"{_path()} cannot be read; correct or delete it")
