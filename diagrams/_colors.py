"""The colors and the lines of drawings, light and dark, as the style sheet of an SVG.

A drawing with one theme has its colors as they are; one that follows the reader's setting has them as variables.
"""

from __future__ import annotations

from typing import Final, Literal

Theme = Literal["auto", "light", "dark"]

LIGHT: Final = {
    "paper": "#fbfbfd",
    "ink": "#191b29",
    "quiet": "#5c6078",
    "line": "#868ca6",
    "card": "#ffffff",
    "rim": "#c9cddd",
    "course": "#3b5bdb",
    "good": "#18794e",
    "good-card": "#e9f9f0",
    "bad": "#b4232c",
    "bad-card": "#fff0f0",
    "stop": "#6e56a8",
    "stop-card": "#f4f0fe",
    "late": "#9a5b00",
    "now": "#b8450a",
    "now-card": "#fff4e6",
}
DARK: Final = {
    "paper": "#12131a",
    "ink": "#eceef7",
    "quiet": "#a3a9c0",
    "line": "#767c98",
    "card": "#1b1d28",
    "rim": "#3a3f51",
    "course": "#91a7ff",
    "good": "#5bd69a",
    "good-card": "#12291f",
    "bad": "#ff9592",
    "bad-card": "#321719",
    "stop": "#baa7ff",
    "stop-card": "#241b3a",
    "late": "#ffb861",
    "now": "#ff922b",
    "now-card": "#33200f",
}

_SANS: Final = "Inter,'Helvetica Neue',Helvetica,Arial,sans-serif"
_MONO: Final = "'JetBrains Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace"

_RULES: Final = f"""\
.paper{{fill:<paper>}}
text{{font-family:{_SANS};font-weight:500;fill:<ink>}}
.name,.row{{font-family:{_MONO}}}
.name{{font-size:13px;font-weight:600}}
.meaning{{font-size:11.5px;fill:<quiet>}}
.fact{{font-size:11px;fill:<quiet>}}
.row{{font-size:10px;fill:<quiet>}}
.card{{fill:<card>;stroke:<rim>;stroke-width:1.25}}
.rule{{stroke:<rim>;stroke-width:1}}
.second{{fill:none;stroke-width:1;opacity:.55}}
.apart .card{{stroke-dasharray:4 4}}
.glyph{{fill:none;stroke:<quiet>;stroke-width:1.3;stroke-linecap:round;stroke-linejoin:round}}
.glyph.clock{{stroke:<late>}}
.glyph.effect{{stroke:<now>}}
.glyph.child{{stroke:<course>}}
.arrow{{fill:none;stroke:<line>;stroke-width:1.4}}
.head{{fill:<line>}}
.label{{font-size:10.5px;fill:<quiet>;paint-order:stroke;stroke:<paper>;stroke-width:4px;stroke-linejoin:round}}
.guard{{font-style:italic}}
.course.arrow{{stroke:<course>;stroke-width:2.1}}
.course.head{{fill:<course>}}
.course.label{{fill:<course>}}
.deadline.arrow{{stroke:<late>;stroke-dasharray:5 4}}
.deadline.head{{fill:<late>}}
.deadline.label{{fill:<late>}}
.start{{fill:<ink>}}
.ring{{fill:none;stroke:<ink>;stroke-width:1.2;opacity:.35}}
.run .box:not(.been),.run .arrow:not(.taken),.run .head:not(.taken),.run .label:not(.taken){{opacity:.4}}
.been .quiet{{opacity:.55}}
.row.taken,.label.taken{{font-weight:700;fill:<course>}}
.been .card{{stroke:<course>;stroke-width:1.8}}
.arrow.taken{{stroke:<course>;stroke-width:2.4;stroke-dasharray:none}}
.head.taken{{fill:<course>}}
.pill{{fill:<course>}}
.pill-text{{font-size:9.5px;font-weight:700;fill:<paper>}}
.now .card{{stroke:<now>;stroke-width:2.4;fill:<now-card>}}
.now .pill{{fill:<now>}}
.halo{{fill:none;stroke:<now>;stroke-width:3;opacity:.35}}
"""

_VERDICTS: Final = {"success": "good", "failure": "bad", "cancelled": "stop"}


def style_sheet(theme: Theme) -> str:
    """The style sheet of a drawing."""
    rules = _RULES + "".join(_of_verdict(verdict, color) for verdict, color in _VERDICTS.items())
    if theme != "auto":
        return _filled(rules, LIGHT if theme == "light" else DARK)
    return (
        f"svg{{{_variables(LIGHT)}}}\n@media(prefers-color-scheme:dark){{svg{{{_variables(DARK)}}}}}\n"
        f"@media print{{svg{{{_variables(LIGHT)}}}}}\n"
    ) + _filled(rules, {name: f"var(--{name})" for name in LIGHT})


def _of_verdict(verdict: str, color: str) -> str:
    return (
        f".{verdict} .card{{fill:<{color}-card>;stroke:<{color}>}}\n"
        f".{verdict} .second{{stroke:<{color}>}}\n"
        f".{verdict} .name{{fill:<{color}>}}\n"
        f".{verdict} .pill{{fill:<{color}>}}\n"
        f".row.{verdict}{{fill:<{color}>}}\n"
        f".glyph.{verdict}{{stroke:<{color}>;stroke-width:1.8}}\n"
    )


def _filled(rules: str, colors: dict[str, str]) -> str:
    for name, color in colors.items():
        rules = rules.replace(f"<{name}>", color)
    return rules


def _variables(colors: dict[str, str]) -> str:
    return "".join(f"--{name}:{color};" for name, color in colors.items())
