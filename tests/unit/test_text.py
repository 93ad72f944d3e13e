"""Foreign text as people read it: what may be secret is gone, what is not stays readable, and its length costs no time.

Factors: the forms in which programs, shells, HTTP, JSON and connection strings write secrets; tokens by the prefixes
that their issuers publish; package and unit names that look alike; control characters.
"""

import re
from collections.abc import Iterator
from re import _constants, _parser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.model import text
from functions.model.text import FOREIGN, on_one_line, quoted, redacted

S = "Wx7-q9Zp.R2"
BASE64 = "dXNlcjpXeDctcTlacC5SMg=="
ALNUM = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6"
SECRETS: dict[str, tuple[str, str]] = {  # a line, and the part that no line may hold
    "a password after a colon": (f"password: {S}", S),
    "in JSON": (f'{{"user": "a", "password": "{S}"}}', S),
    "in JSON, without spaces": (f'{{"password":"{S}","a":1}}', S),
    "in JSON that is a text of JSON": (f'{{\\"password\\":\\"{S}\\"}}', S),
    "in JSON, with spaces inside": (f'"password": "first {S}"', S),
    "in Python's words": (f"{{'password': '{S}'}}", S),
    "an option": (f"useradd --password {S} web", S),
    "an option of one dash": (f"tool -password {S}", S),
    "an option with more in its name": (f"az login --federated-token {S}", S),
    "an assignment with spaces": (f"PASSWORD = {S}", S),
    "a variable": (f"export DB_PASSWORD={S}", S),
    "a variable in quotes": (f"MYSQL_PWD='{S}'", S),
    "an arrow": (f"password => '{S}'", S),
    "a passphrase": (f"passphrase={S}", S),
    "passwd": (f"passwd={S}", S),
    "basic authorization": (f"Authorization: Basic {BASE64}", BASE64),
    "authorization in JSON": (f'"Authorization": "Basic {BASE64}"', BASE64),
    "bearer authorization": (f"authorization: bearer {S}", S),
    "a bearer token alone": (f"sent Bearer {S}", S),
    "a header of a key": (f"X-Api-Key: {S}", S),
    "a subscription's key": (f"Ocp-Apim-Subscription-Key: {S}", S),
    "an API key": (f"api_key={S}", S),
    "a client's secret": (f"client_secret: {S}", S),
    "a connection string of storage": (f"AccountName=a;AccountKey={BASE64};EndpointSuffix=x", BASE64),
    "a connection string of a bus": (f"SharedAccessKeyName=n;SharedAccessKey={BASE64}", BASE64),
    "a shared access signature": (f"sv=2024&sig={S}&se=2027", S),
    "a signed address": (f"https://a.blob.core.windows.net/c?sv=2024&x={S}", S),
    "a user in an address": (f"ftp://me:{S}@mirror.example/ubuntu", S),
    "a token of GitHub": (f"ghp_{ALNUM}", ALNUM),
    "a fine-grained token of GitHub": (f"github_pat_{ALNUM}_{ALNUM}", ALNUM),
    "a token of GitLab": (f"glpat-{ALNUM[:20]}", ALNUM[:20]),
    "a token of Slack": (f"xoxb-123456789012-{ALNUM}", ALNUM),
    "a key of AWS": ("key id AKIAIOSFODNN7EXAMPLE here", "IOSFODNN7EXAMPLE"),
    "a JSON Web Token": (f"eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxIn0.{ALNUM}", ALNUM),
    "a private key": (f"-----BEGIN RSA PRIVATE KEY-----\n{ALNUM}\n{BASE64}\n-----END RSA PRIVATE KEY-----", ALNUM),
    "a private key without an end": (f"-----BEGIN OPENSSH PRIVATE KEY-----\n{ALNUM}\n", ALNUM),
    "a private key on one line": (f"-----BEGIN PRIVATE KEY-----\\n{ALNUM}\\n-----END PRIVATE KEY-----", ALNUM),
    "an e-mail address": ("mail to jane.doe+ops@contoso.example", "jane.doe"),
    "an e-mail address in brackets": ("Maintainer: Jane <jane@mail.contoso.example>", "jane@"),
    "an e-mail address at a name of digits": ("jane@163.com", "jane"),
    "a user principal name of a guest": ("jane_contoso.com#EXT#@fabrikam.onmicrosoft.com", "jane"),
}
READABLE = {  # what guests and Azure say that only looks like the above
    "a package": "password-gorilla 1.6.0~git20180203-1 is already the newest version",
    "the package of passwords": "Unpacking passwd (1:4.13+dfsg1-3) over (1:4.8.1-2)",
    "a module of PAM": "libpam-passwdqc:amd64 2.0.2-1 failed",
    "a module and its version": "libpam-passwdqc=2.0.2-1",
    "a scoped package": "npm @angular/core@17.3.0 is deprecated",
    "a package at a version": "openssl@3 and python@3.11 and left-pad@1.3.0",
    "a package at a release candidate": "kernel@6.8.0.rc1",
    "a package at a beta version": "tool@2.0.1.beta",
    "a unit": "getty@tty1.service and user@1000.service failed",
    "a unit with a name": "openvpn@office.site.service failed",
    "an expired password": "The password of root expired; change it",
    "a failed log-in": "password authentication failed",
    "a missing key": "The public key is not available: NO_PUBKEY 871920D1991BC93C",
    "a registry's key": r"Registry key: HKLM\SOFTWARE\Microsoft does not exist",
    "a certificate": "-----BEGIN CERTIFICATE----- MIIB -----END CERTIFICATE-----",
    "a basic matter": "Basic authentication failed",
    "a bearer": "the bearer",
    "a keyring": "debian-archive-keyring=2023.4 is installed",
    "an address": "https://packages.contoso.example/ubuntu/dists/noble/InRelease 404",
    "an option of another kind": "gpg --passphrase-file /etc/key failed",
    "a machine": "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/rg/providers/x/virtualMachines/vm",
    "a time": "2026-11-25T08:00:00+00:00",
    "a count": "3 tokens, 2 keys and 1 secret were found",
}


@pytest.mark.parametrize(("line", "secret"), SECRETS.values(), ids=SECRETS)
def test_a_secret_is_gone_in_any_surroundings(line: str, secret: str) -> None:
    for around in (line, f"E: {line}", f"first {line} and more", line.upper() if secret == S.upper() else line):
        assert secret not in redacted(around)
        assert secret not in quoted(around)


@pytest.mark.parametrize("line", READABLE.values(), ids=READABLE)
def test_what_only_looks_like_a_secret_stays(line: str) -> None:
    assert redacted(line) == line


def test_nothing_that_a_pattern_finds_is_passed_over_as_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line, _ in SECRETS.values()]
    shown = [redacted(line) for line in lines]
    monkeypatch.setattr(text, "_SUSPECT", ("",))
    assert [redacted(line) for line in lines] == shown


@pytest.mark.parametrize(
    "line", ["to\u212aen: {}", "pa\u017f\u017fword={}", "cr\u0117d \u017fecret={}", "\u0131 s\u0131g={}", "s\u0130g={}"]
)
def test_letters_that_case_makes_alike_hide_no_secret(line: str) -> None:
    assert S not in redacted(line.format(S))


def test_the_words_around_a_secret_stay() -> None:
    assert redacted(f"E: login with --password {S} failed on web-01") == "E: login with --password … failed on web-01"
    assert (
        redacted(f"AccountName=a;AccountKey={BASE64};EndpointSuffix=x") == "AccountName=a;AccountKey=…;EndpointSuffix=x"
    )
    assert redacted("owner jane@contoso.example left", addresses=True) == "owner jane@contoso.example left"


def test_what_is_cut_leaves_no_half_of_a_secret() -> None:
    for line, secret in SECRETS.values():
        for missing in range(1, len(line)):
            shown = redacted("x" * (FOREIGN - len(line) + missing - 1) + " " + line + " y" * 10)
            assert secret not in shown


@given(st.text())
def test_a_line_is_one_line_and_keeps_its_length(line: str) -> None:
    assert on_one_line(line).isprintable()
    assert len(on_one_line(line)) == len(line)


@pytest.mark.parametrize("char", ["\n", "\r", "\x1b", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028", "\x00", "\ud800"])
def test_characters_that_could_change_a_line_are_seen_or_gone(char: str) -> None:
    assert char not in redacted(f"a{char}b")
    assert len(redacted(f"a{char}b")) == 3


# -- time: what the patterns are given is bounded, and no pattern reads a part of it again and again


class Recorded:
    """A pattern that keeps what it is given."""

    def __init__(self, pattern: re.Pattern[str], given: list[int]) -> None:
        self.pattern, self.given = pattern, given

    def sub(self, instead: Any, line: str) -> str:
        self.given.append(len(line))
        return self.pattern.sub(instead, line)


@pytest.mark.parametrize("line", ["http://a" * 16_000, "eyJaaaa-" * 32_000, "password: " * 10_000, "a" * 1_000_000])
def test_no_pattern_is_given_more_than_the_cut(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    patterns = [(Recorded(pattern, given), instead) for pattern, instead in text._SECRETS]
    monkeypatch.setattr(text, "_SECRETS", patterns)
    monkeypatch.setattr(text, "_WEB_ADDRESS", Recorded(text._WEB_ADDRESS, given))
    monkeypatch.setattr(text, "_MAIL", Recorded(text._MAIL, given))
    redacted(f"@ key= x :// {line}")
    quoted(f"@ key= x :// {line}")
    assert len(given) == 2 * (len(text._SECRETS) + 2)
    assert max(given) <= FOREIGN + len("…")


PATTERNS = [*(pattern for pattern, _ in text._SECRETS), text._WEB_ADDRESS, text._MAIL]


def repetitions(parsed: Any, *, inside: bool = False) -> Iterator[tuple[bool, Any, Any]]:
    """Each repetition of a parsed pattern: whether it stands in another one, its greatest number, what it repeats."""
    for kind, value in parsed:
        if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            yield inside, value[1], value[2]
            yield from repetitions(value[2], inside=True)
        elif kind is _constants.SUBPATTERN:
            yield from repetitions(value[-1], inside=inside)
        elif kind is _constants.BRANCH:
            for each in value[1]:
                yield from repetitions(each, inside=inside)
        elif kind in (_constants.ASSERT, _constants.ASSERT_NOT):
            yield from repetitions(value[1], inside=inside)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.pattern[:30])
def test_no_repetition_without_a_bound_stands_in_another(pattern: re.Pattern[str]) -> None:
    found = list(repetitions(_parser.parse(pattern.pattern, pattern.flags)))
    assert found
    for inside, most, repeated in found:
        assert not (inside and most is _constants.MAXREPEAT)
        assert most is not _constants.MAXREPEAT or len(repeated) == 1, "more than one class of characters"
