"""What reading back costs: `python -m benchmarks.reading_back`.

Before a commit the engine decodes what it encoded and compares. The cost is that of a context and an event, encoded as
a flow does, less that of encoding alone; its share is that of a durable transition of 1,000 flows in the same run.
"""

from __future__ import annotations

from typing import Final

from .measure import Contestant, Settings, median, run_tables, section, spread, take_turns, workers
from .results import Run, Seconds

COUNT: Final = 20_000
FLOWS: Final = 1_000
EACH: Final = 10
QUICK: Final = 10

OURS: Final = Contestant("ours", "benchmarks.reading_back_ours", "read_back", note="`encode_event`, `encode_context`.")
PLAIN: Final = Contestant("msgspec", "benchmarks.reading_back_ours", "only_written", note="`msgspec.json.encode`.")
DRIVEN: Final = Contestant(
    "a transition", "benchmarks.driven_ours", "leaving", note="durable, of many flows that leave their state."
)


def table(settings: Settings) -> str:
    """Microseconds a transition, and their share of one."""
    count, flows = (QUICK, QUICK) if settings.quick else (COUNT, FLOWS)
    rows: list[list[str]] = []
    with workers(settings) as asked:
        for exact in (True, False):

            def ask(contestant: Contestant, exact: bool = exact) -> float:
                if contestant is DRIVEN:
                    run = asked.ask(contestant, Run, flows=flows, transitions=EACH)
                    return run.seconds / run.transitions * 1e6
                return asked.ask(contestant, Seconds, count=count, exact=exact).seconds / count * 1e6

            taken = take_turns((OURS, PLAIN, DRIVEN), settings.rounds, ask, warm=True)
            ours, plain, whole = (median(taken[each.label]) for each in (OURS, PLAIN, DRIVEN))
            named = "ten fields, all typed" if exact else "with a field of any type"
            share = f"{(ours - plain) / whole:.1%}"
            rows.append([named, f"{ours:.2f}", f"{plain:.2f}", f"{whole:.1f}", share, spread(taken[OURS.label])])
    title = f"Reading back what is written, µs (medians of {settings.rounds} rounds; lower is better)"
    head = [
        "context",
        "ours",
        "encoding alone",
        "a transition",
        "(ours - alone) ÷ a transition",
        "our min to max round",
    ]
    return section(title, head, rows, (OURS, PLAIN, DRIVEN))


if __name__ == "__main__":
    run_tables([table])
