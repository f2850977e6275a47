"""A chart of series as PNG, drawn by gnuplot: one bar for each, its median, with the range of all runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.report import Series

_SCRIPT = """
set terminal pngcairo size 1000,{height} font "sans,11"
set output "{output}"
set title "{title}"
set xlabel "seconds (bar: median, whiskers: all runs)"
set style fill solid 0.6
set boxwidth 0.6
set yrange [{count} - 0.4 : -0.6]
set xrange [0:{most}]
set grid xtics
unset key
set bars 1
set ytics nomirror
set lmargin 36
set style textbox opaque
$data << END
{rows}
END
plot $data using ($2/2):1:($2/2):(0.3):ytic(5) with boxxyerror lc rgb "#4878a8", \\
     $data using 2:1:3:4 with xerrorbars pt 0 lc rgb "black", \\
     $data using 4:1:(sprintf("  %.2f s", $2)) with labels left
"""


def missing() -> str:
    """Return why no chart can be drawn here; empty when it can."""
    return "" if shutil.which("gnuplot") else "gnuplot is not installed (Debian package gnuplot-nox)"


def draw(series: Sequence[Series], title: str, path: Path) -> None:
    """Write the chart, the quickest at the top.

    Raises:
        subprocess.CalledProcessError: gnuplot refused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(series, key=lambda one: one.quantile(0.5))
    rows = "\n".join(
        f'{number} {one.quantile(0.5) / 1000} {min(one.seconds)} {max(one.seconds)} "{_escaped(one.name)}"'
        for number, one in enumerate(ordered)
    )
    longest_s = max(max(one.seconds) for one in series)
    script = _SCRIPT.format(
        output=_escaped(str(path)),
        title=_escaped(title),
        rows=rows,
        count=len(ordered),
        height=120 + 60 * len(ordered),
        most=1.12 * longest_s,
    )
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "'").replace("_", "\\\\_")
