"""Colours, type and shapes of the page; `assets/page.css` has the layout."""

from __future__ import annotations

from typing import Any

from gradio.themes import Base
from gradio.themes.utils import colors, sizes

_CLAY = colors.Color(
    name="clay",
    c50="#fcf4f0",
    c100="#f8e4db",
    c200="#f0c7b7",
    c300="#e8a88f",
    c400="#e58a66",
    c500="#c65f3f",
    c600="#a8432a",
    c700="#8c3722",
    c800="#6f2e1e",
    c900="#56261b",
    c950="#31140e",
)
_STONE = colors.Color(
    name="stone",
    c50="#fbfaf8",
    c100="#f6f4f0",
    c200="#ece8e1",
    c300="#dfdad1",
    c400="#a39c91",
    c500="#7d766c",
    c600="#655f56",
    c700="#403c36",
    c800="#2a2824",
    c900="#1f1d1b",
    c950="#171614",
)
_SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Noto Sans Mono", "monospace")


def make_theme() -> Base:
    """The theme, in light and dark, with the fonts every system has."""
    theme: Any = Base(
        primary_hue=_CLAY,
        secondary_hue=_CLAY,
        neutral_hue=_STONE,
        radius_size=sizes.radius_md,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
        font=_SYSTEM,
        font_mono=_SYSTEM_MONO,
    )
    return theme.set(
        body_background_fill="*neutral_100",
        body_background_fill_dark="*neutral_950",
        body_text_color="#24211d",
        body_text_color_dark="#ece8e1",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="*neutral_900",
        border_color_primary="*neutral_300",
        border_color_primary_dark="#35322d",
        color_accent="*primary_600",
        color_accent_soft_dark="*neutral_800",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_shadow_dark="none",
        block_padding="0px",
        block_label_text_weight="500",
        block_title_text_weight="500",
        block_title_text_size="*text_sm",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_400",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_padding="0px",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_color_dark="#403c36",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_dark="none",
        input_shadow_focus="none",
        input_shadow_focus_dark="none",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_950",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px",
        button_large_text_weight="600",
        button_large_radius="8px",
    )
