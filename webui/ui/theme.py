"""Gradio's own theme, as far as it shows: fonts every system has. The rest is `assets/page/`."""

from __future__ import annotations

from gradio.themes import Base


def make_theme() -> Base:
    """The theme without fonts from another host."""
    return Base(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"))
