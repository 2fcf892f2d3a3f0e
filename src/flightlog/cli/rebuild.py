"""`flightlog rebuild`: projects the whole ledger anew and swaps the result in."""

from __future__ import annotations

import time

from flightlog.cli import output, places
from flightlog.cli.options import AsJson, Place
from flightlog.cli.progress import bar
from flightlog.schema.settings import without_password


def rebuild(place: Place = None, as_json: AsJson = False) -> None:
    """Project the whole ledger anew beside what is there, and swap it in. Readers see the old projection or the new.

    Events go on being filed meanwhile; workers wait only while the new projection takes the place of the old one.
    """
    location = places.find(place)
    began = time.perf_counter()
    with places.opened_database(location) as store:
        events = sum(item.committed for item in store.writers())
        with bar("projecting", events) as tell:
            subjects = store.rebuild(tell)
    seconds = time.perf_counter() - began
    if as_json:
        document = {"tracking_uri": without_password(location.tracking_uri), "subjects": subjects, "events": events, "seconds": seconds}
        output.print_json(document)
    else:
        output.print_line(f"projected {output.counted(events, 'event')} anew: {subjects:,} runs and experiments, in {output.span(seconds)}")
