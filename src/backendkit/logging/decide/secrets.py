"""Finding secrets: which keys hold them, and what they look like inside text.

Every pattern stands behind a test that costs tens of nanoseconds (`"eyJ" in text`), since nearly all texts hold no secret.
All of them take time linear in the text: repetitions are bounded or possessive, so that hostile text cannot make a
record slow. Card numbers: ISO/IEC 7812-1 (check digit: annex B); JWTs: RFC 7519; credentials: RFC 7617 and 6750.
"""

from __future__ import annotations

import re
from base64 import b64decode

from backendkit.logging.decide.pairs import Pairs
from backendkit.logging.policy import Redaction

_REMEMBERED = 4_096
"""Entries of a memory of keys or harmless texts before it is begun anew."""

_SHORT = 64
"""Characters of a text that is worth remembering as harmless: event names, routes, methods."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_PEM = re.compile(
    r"-----BEGIN[A-Z ]{0,40}PRIVATE KEY(?:.*?-----END[A-Z ]{0,40}KEY-----|.*)", re.DOTALL
)
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{6,}+(?:\.[A-Za-z0-9_-]*+){0,4}")
_BEARER = re.compile(r"\b(bearer\s{1,4})[A-Za-z0-9._~+/=:-]{4,}+", re.IGNORECASE)
_BASIC = re.compile(r"\b(basic\s{1,4})([A-Za-z0-9+/_-]{4,}+={0,2})", re.IGNORECASE)
_KEYS_OF_PROVIDERS = re.compile(
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|gh[opsru]_[0-9A-Za-z]{20,}+"
    r"|github_pat_[0-9A-Za-z_]{20,}+|glpat-[0-9A-Za-z_-]{16,}+|xox[abeoprs]-[0-9A-Za-z-]{10,}+"
    r"|[rs]k_(?:live|test)_[0-9A-Za-z]{10,}+|sk-[0-9A-Za-z_-]{20,}+"
)
_PROVIDERS = (
    ("A", ("AKIA", "ASIA", "AIza")),
    ("_", ("gh", "k_live_", "k_test_")),
    ("-", ("glpat-", "xox", "sk-")),
)
_CARD = re.compile(
    # The digit stands first and is looked behind of, because the engine skips fast to a first character only.
    r"[2-6](?<![0-9A-Za-z].)(?<![0-9]\..)"
    r"(?:[0-9]{3}([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|[0-9]{3}([ -]?)[0-9]{6}\2[0-9]{4,5})"
    r"(?![0-9A-Za-z]|\.[0-9])"
)
_ISSUERS = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2[2-7][0-9]{14}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[689][0-9])[0-9]{11,16}|35[0-9]{14,17}|(?:5[06-8]|6[0-9])[0-9]{11,17}"
)
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_WEB_USER = re.compile(r"[^\s/?#\\]*@")
_WORD_END = re.compile(r"[\s\"]|\Z")
_ENCODED_USER = re.compile(r"(%3a%2f%2f)(?:(?!%2f|%40)[^\s&\"])*+%40", re.IGNORECASE)
_SIGN = re.compile(r"[:=>]|%3|[\"'],|--")
"""What stands behind, before or around the name of a secret in text."""
_LEAST_CARD, _MOST_CARD = 10**12, 10**19


class Secrets:
    """Finds secrets by the rules of one `Redaction`. Safe to use from any thread.

    Args:
        redaction: the rules.

    Attributes:
        known: keys seen before, with what `key` said of them; for a caller that cannot afford the call.
        harmless: short texts seen before in which there was no secret; likewise.
        mask: what stands in place of a secret.
    """

    __slots__ = (
        "_emails",
        "_keep",
        "_keys",
        "_pairs",
        "_patterns",
        "_words",
        "harmless",
        "known",
        "mask",
    )

    def __init__(self, redaction: Redaction) -> None:
        self.mask = redaction.mask
        self._keys = tuple(_letters(key) for key in redaction.keys)
        self._words = frozenset(word.lower() for word in redaction.words)
        self._keep = frozenset(_letters(name) for name in redaction.keep)
        self._patterns = tuple(re.compile(pattern) for pattern in redaction.patterns)
        self._emails = redaction.emails
        self._pairs = Pairs(redaction.keys, redaction.words, redaction.mask, self.is_secret)
        self.known: dict[str, tuple[str, bool]] = {}
        self.harmless: set[str] = set()

    def is_secret(self, key: str) -> bool:
        """Tell whether what stands under `key` is a secret."""
        return self.key(key)[1]

    def key(self, key: str) -> tuple[str, bool]:
        """Return a key as it is written, and whether what stands under it is a secret; remembered, about 0.05 us."""
        found = self.known.get(key)
        if found is None:
            found = self.text(key), self._looks_secret(key[:256])
            if len(key) <= _SHORT:
                if len(self.known) >= _REMEMBERED:
                    self.known = {}
                self.known[key] = found
        return found

    def text(self, text: str) -> str:
        """Return `text` with the secrets in it masked; the same object where there are none."""
        if len(text) < 4 or text in self.harmless:
            return text
        clean = self._scrub(text)
        if clean is text and len(text) <= _SHORT:
            if len(self.harmless) >= _REMEMBERED:
                self.harmless = set()
            self.harmless.add(text)
        return clean

    def number(self, value: int) -> int | str:
        """Return `value`, or the mask if it is a card number."""
        if _LEAST_CARD <= value < _MOST_CARD and _is_card(str(value)):
            return self.mask
        return value

    def _looks_secret(self, key: str) -> bool:
        letters = _letters(key)
        if letters in self._keep:
            return False
        if any(secret in letters for secret in self._keys):
            return True
        return any(word.lower() in self._words for word in _WORDS.findall(key))

    def _scrub(self, text: str) -> str:
        if text.isalnum() and "eyJ" not in text and not self._patterns:
            if text.isdecimal():
                return self.mask if _is_card(text) else text
            return self._providers(text) if "A" in text else text
        clean = self._tokens(text)
        if ":" in clean or "=" in clean or _SIGN.search(clean):
            clean = self._pairs.scrub(self._users(clean))
        if len(clean) >= 13:
            clean = _CARD.sub(self._card, clean)
        if self._emails and "@" in clean:
            clean = _EMAIL.sub(self._masked, clean)
        for pattern in self._patterns:
            clean = pattern.sub(self._masked, clean)
        return clean

    def _tokens(self, text: str) -> str:
        """Mask what is a secret by its own shape."""
        if "-----BEGIN" in text:
            text = _PEM.sub(self._masked, text)
        if "eyJ" in text:
            text = _JWT.sub(self._masked, text)
        text = self._providers(text)
        if " " in text or "\t" in text or "\n" in text:
            lower = text.lower()
            if "bearer" in lower:
                text = _BEARER.sub(self._after_scheme, text)
            if "basic" in lower:
                text = _BASIC.sub(self._basic, text)
        return text

    def _providers(self, text: str) -> str:
        for mark, prefixes in _PROVIDERS:
            if mark in text and any(prefix in text for prefix in prefixes):
                return _KEYS_OF_PROVIDERS.sub(self._masked, text)
        return text

    def _users(self, text: str) -> str:
        """Mask the user info of URLs and DSNs, whole: some hold the secret in the place of the name."""
        if "%40" in text:
            text = _ENCODED_USER.sub(rf"\1{_template(self.mask)}%40", text)
        place = text.find("://")
        if place < 0 or "@" not in text:
            return text
        done, out = 0, ""
        word_end = last_at = -1
        while place >= 0:
            start = place + 3
            scheme = text[max(place - 5, 0) : place].lower()
            if scheme.endswith(("http", "https", "ws", "wss")):
                found = _WEB_USER.match(text, start)
                end = found.end() if found is not None else -1
            else:
                # Up to the last `@` of the word: drivers accept passwords with `/`, `?` and `#` in them. Sought once a
                # word, for there may be thousands of `://` in it.
                if word_end < start:
                    ended = _WORD_END.search(text, start)
                    word_end = ended.start() if ended is not None else len(text)
                    last_at = text.rfind("@", start, word_end)
                end = last_at + 1
            if end > start:
                out += f"{text[done:start]}{self.mask}@"
                done = end
            place = text.find("://", max(done, start))
        return out + text[done:]

    def _card(self, match: re.Match[str]) -> str:
        digits = match[0].replace(" ", "").replace("-", "")
        return self.mask if _is_card(digits) else match[0]

    def _basic(self, match: re.Match[str]) -> str:
        """Mask credentials, and leave "basic authentication failed" alone."""
        return match[1] + self.mask if _holds_colon(match[2]) else match[0]

    def _after_scheme(self, match: re.Match[str]) -> str:
        return match[1] + self.mask

    def _masked(self, match: re.Match[str]) -> str:
        return self.mask


def _template(mask: str) -> str:
    return mask.replace("\\", "\\\\")


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _holds_colon(encoded: str) -> bool:
    """Tell whether this is `user:password` in base64, in either alphabet, with or without padding, or cut short."""
    whole = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    whole = whole[: len(whole) // 4 * 4] if len(whole) % 4 == 1 else whole
    try:
        return encoded.endswith("=") or b":" in b64decode(whole + "=" * (-len(whole) % 4))
    except ValueError:  # pragma: no cover  # the alphabet and the length are right by now
        return True


def _is_card(digits: str) -> bool:
    if not 13 <= len(digits) <= 19 or not _ISSUERS.fullmatch(digits):
        return False
    doubled = sum((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)[int(digit)] for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[::-2]))) % 10 == 0
