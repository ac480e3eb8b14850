"""Mail, as files in a folder: enough to see what would be sent. A real one would put it into a queue."""

from pathlib import Path
from secrets import token_hex

from examples.accounts.domain.user import EmailAddress


class FileMail:
    """The domain's `Mail`. Safe to share between threads and processes.

    Args:
        folder: where each mail becomes a file; None: nowhere, it is dropped.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder)

    def send(self, to: EmailAddress, text: str) -> None:
        """Write a file that only this user of the machine can read: what is in it opens an account."""
        if self._folder is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / f"{token_hex(8)}.txt").write_text(f"To: {to}\n\n{text}\n")
