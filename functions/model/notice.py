"""What other programs receive: one notice per move (docs/notices.md), and what a summary counts of them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from functions.model.text import Json


class NoticeType(StrEnum):
    """The `type` of its CloudEvent. A type and the fields of its data are never renamed: others' programs read them."""

    ASSESSMENT_ENDED = "ImagePatcher.AssessmentEnded"
    SUPPORT_DETECTED = "ImagePatcher.SupportDetected"
    INSTALLATION_PLANNED = "ImagePatcher.InstallationPlanned"
    INSTALLATION_STARTED = "ImagePatcher.InstallationStarted"
    INSTALLATION_ENDED = "ImagePatcher.InstallationEnded"
    MACHINE_HELD = "ImagePatcher.MachineHeld"
    CANARY_PROVED = "ImagePatcher.CanaryProved"
    CANARY_FAILED = "ImagePatcher.CanaryFailed"
    BREAKER_OPENED = "ImagePatcher.BreakerOpened"
    BREAKER_CLOSED = "ImagePatcher.BreakerClosed"
    ROLLOUT_ENDED = "ImagePatcher.RolloutEnded"
    RUN_PROGRESS = "ImagePatcher.RunProgress"
    MORNING_SUMMARY = "ImagePatcher.MorningSummary"


@dataclass(frozen=True)
class Notice:
    """One message to other programs. `data` holds texts, numbers, flags and lists of texts; times are ISO texts.

    `keep_until`: its row stays until then, though the topic has it, because the app still goes by it.
    """

    type: NoticeType
    subject: str
    data: Json
    keep_until: datetime | None = None
