"""The circuit's figure tells what the circuit does."""

from __future__ import annotations

from tests.docs.circuit import FIGURE, drawn


def test_the_figure_is_drawn_from_the_table_of_moves() -> None:
    """To draw it anew: `python -m tests.docs.circuit`."""
    assert FIGURE.read_text() == drawn()
