"""Makes docs/demo.svg: what the demo's terminal shows after some seconds of a real run.

make picture
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

from rich.console import Console

from shardlog.cli.demo.blade import Stop
from shardlog.cli.demo.cluster import Cluster
from shardlog.cli.demo.command import TESTS, make_site
from shardlog.cli.demo.sight import Sight
from shardlog.cli.demo.view import Sample, render
from shardlog.monitor.follow import follow
from shardlog.monitor.live.loading import load
from shardlog.monitor.live.report import unexplained
from shardlog.monitor.live.session import Followed, Session

SECONDS = 12
RATE_SECONDS = 5
TARGET = Path(__file__).with_name("demo.svg")


def main() -> None:
    console = Console(record=True, width=100, file=io.StringIO(), highlight=False)
    with tempfile.TemporaryDirectory() as name:
        folder, stop = Path(name), Stop()
        pages = make_site(Console(), stop, folder)
        with Cluster(folder, stop) as cluster:
            cluster.start(pages)
            with (
                follow(cluster.url) as inbox,
                Session(load([TESTS]), Followed(inbox)) as session,
                Sight(cluster.url) as sight,
            ):
                time.sleep(SECONDS - RATE_SECONDS)
                earlier = sight.latest
                time.sleep(RATE_SECONDS)
                look = sight.latest
                tests = session.read(unexplained)
            assert earlier is not None
            assert look is not None
            before, now = (Sample.of(seen.state, seen.at) for seen in (earlier, look))
            title = f"shardlog demo   {SECONDS} s   --connect {cluster.url}"
            console.print(render(title, look.blades, look.state, now, before, tests))
            cluster.stop_blades()
    console.save_svg(str(TARGET), title="make demo")
    print(f"{TARGET.relative_to(Path.cwd())} is made")


if __name__ == "__main__":
    main()
