"""What is written is read again, as far as it was written whole."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shardlog.crdt.delta import REGISTER
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.replication.messages import Changes, Row
from shardlog.monitor.feed import Doubt, Event, Moved, Whole
from shardlog.monitor.live import recording
from shardlog.monitor.live.recording import Recorder, read
from tests.live.events import EVENTS, WHOLES, WRITERS, files, fold, moved, whole

URL = "tcp://127.0.0.1:7410"


def record(folder: Path, *events: Event, segment_bytes: int = 1 << 20) -> None:
    with Recorder(folder, URL, segment_bytes=segment_bytes) as recorder:
        recorder.write(events)


@settings(max_examples=100)
@given(st.lists(EVENTS, min_size=1, max_size=12), st.integers(1, 400))
def test_what_was_written_is_read(events: list[Event], segment_bytes: int) -> None:
    """Each event, equal to the last bit, over however many segments: their openings do not show."""
    with tempfile.TemporaryDirectory() as name:
        record(Path(name), *events, segment_bytes=segment_bytes)

        assert repr(list(read(Path(name)))) == repr(events)


@settings(max_examples=100)
@given(WHOLES, st.lists(EVENTS, max_size=12), st.integers(1, 400))
def test_a_segment_alone_begins_with_all_that_was_before(
    first: Whole, more: list[Event], segment_bytes: int
) -> None:
    """State, heartbeat and doubt: whoever has but the last segment knows what all come to."""
    events = [first, *more]
    with tempfile.TemporaryDirectory() as name:
        record(Path(name), *events, segment_bytes=segment_bytes)

        for segment in files(Path(name)):
            told = list(read(segment))
            rest = [event for one in files(Path(name)) if one > segment for event in read(one)]
            assert isinstance(told[0], Whole)
            assert fold([*told, *rest]) == fold(events)
        assert fold(read(files(Path(name))[-1])) == fold(events)


@example([Whole(1, (whole(1, a=1).changes[0], whole(1, b=2).changes[0])), moved(2, a=2)])
@settings(max_examples=4)
@given(st.lists(EVENTS, min_size=2, max_size=4))
def test_a_tail_torn_anywhere_is_read_up_to_the_last_whole_event(events: list[Event]) -> None:
    """And said; where the header itself is torn it is no recording."""
    with tempfile.TemporaryDirectory() as name:
        ends: list[int] = []
        with Recorder(Path(name), URL) as recorder:
            for event in events:
                recorder.write([event])
                ends.append(recorder.size)
        (file,) = files(Path(name))
        data = file.read_bytes()
        record(Path(name, "empty"), Doubt(events[0].at_ns, ""))
        start = files(Path(name, "empty"))[0].stat().st_size - 18
        assert ends[-1] == len(data)
        for size in range(len(data)):
            file.write_bytes(data[:size])
            if size < start:
                with pytest.raises(ConfigError, match="no recording"):
                    read(file)
                continue
            whole = sum(end <= size for end in ends)
            found = list(read(file))
            assert repr(found[:whole]) == repr(events[:whole])
            if size in (start, *ends):
                assert len(found) == whole
            else:
                (last,) = found[whole:]
                assert isinstance(last, Doubt)
                assert "000001.shards ends within" in last.reason
                assert f"behind {whole} whole events" in last.reason


@settings(max_examples=20)
@given(st.data())
def test_a_damaged_byte_is_never_taken_for_what_was_written(data: st.DataObject) -> None:
    """What is read is a beginning of what was written, and then that it is damaged."""
    events: list[Event] = [whole(1, a=1), moved(2, a=2, b="x"), moved(3, c=None)]
    with tempfile.TemporaryDirectory() as name:
        record(Path(name), *events)
        (file,) = files(Path(name))
        content = bytearray(file.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        file.write_bytes(content)
        try:
            found = list(read(file))
        except ConfigError:
            return
        assert isinstance(found[-1], Doubt)
        assert found[:-1] == events[: len(found) - 1]
        assert len(found) <= len(events)


def test_the_oldest_segments_go_and_what_is_left_is_bounded(tmp_path: Path) -> None:
    """The folder never has more than it may; what is read comes to the same as all."""
    events: list[Event] = [whole(0, a=0)]
    events += [moved(number, **{f"k{number % 7}": "x" * 100}) for number in range(1, 400)]
    with Recorder(tmp_path, URL, segment_bytes=2000, keep_bytes=9000) as recorder:
        for event in events:
            recorder.write([event])
            assert sum(file.stat().st_size for file in files(tmp_path)) <= 9000

    assert files(tmp_path)[0].name > "000010.shards"
    assert len(files(tmp_path)) > 2
    told = list(read(tmp_path))
    assert fold(told) == fold(events)
    assert told[1:] == events[-len(told) + 1 :]


def test_a_large_state_is_not_written_again_and_again(tmp_path: Path) -> None:
    """A segment holds at least as much behind its opening as its opening is large."""
    large = whole(0, **{f"k{number}": "x" * 100 for number in range(1000)})
    events: list[Event] = [large, *(moved(number, n=number) for number in range(1, 3000))]
    record(tmp_path, *events, segment_bytes=1000)

    assert len(files(tmp_path)) <= 4
    assert list(read(tmp_path)) == events


def test_what_is_too_large_for_a_frame_is_written_in_parts(tmp_path: Path) -> None:
    """A group of changes that is taken in at once is one again, also within a whole."""
    rows = [Row(f"k{number}", REGISTER, "x" * 1000, 1, number % 2) for number in range(3000)]
    large = Changes(WRITERS, rows)
    events: list[Event] = [Whole(1, (large, Changes([], []), large)), Moved(2, large)]
    record(tmp_path, *events, segment_bytes=1 << 30)

    assert list(read(tmp_path)) == events
    last = files(tmp_path)[0]
    last.write_bytes(last.read_bytes()[:-1])
    whole, doubt = read(tmp_path)
    assert whole == events[0]
    assert "ends within" in getattr(doubt, "reason", "")


def test_a_recorder_that_comes_back_says_that_it_was_away(tmp_path: Path) -> None:
    """From its end to the whole that it begins with anew, what shows is in doubt."""
    before: list[Event] = [whole(1, a=1), moved(2, a=2)]
    after: list[Event] = [whole(9, a=8), moved(10, a=9)]
    record(tmp_path, *before)
    record(tmp_path, *after)

    reason = "nothing is recorded from here to 000002.shards"
    doubts = [Doubt(2, reason), Doubt(9, "")]
    assert list(read(tmp_path)) == [*before, doubts[0], after[0], doubts[1], after[1]]


def test_a_recorder_that_comes_back_after_a_kill_says_that_once(tmp_path: Path) -> None:
    """What was torn is why what shows is in doubt, until it has begun anew."""
    record(tmp_path, whole(1, a=1), moved(2, a=2))
    file = files(tmp_path)[0]
    file.write_bytes(file.read_bytes()[:-3])
    record(tmp_path, whole(9, a=8))

    torn = Doubt(1, "000001.shards ends within a record, behind 1 whole events")
    assert list(read(tmp_path)) == [whole(1, a=1), torn, whole(9, a=8), Doubt(9, "")]


def test_a_segment_that_is_missing_in_between_is_said(tmp_path: Path) -> None:
    """The next one's opening shows then, with what was heard and in doubt."""
    events: list[Event] = [whole(0, a=0), *(moved(number, a="x" * 300) for number in range(1, 10))]
    record(tmp_path, *events, segment_bytes=300)
    files(tmp_path)[3].unlink()

    told = list(read(tmp_path))
    reasons = [event.reason for event in told if isinstance(event, Doubt)]
    assert reasons == ["nothing is recorded from here to 000005.shards", ""]
    assert sum(isinstance(event, Whole) for event in told) == 2
    assert fold(told) == fold(events)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "this is no recording"),
        (b"text of somebody", "this is no recording"),
        (recording.MAGIC, "this is no recording"),
        (recording.MAGIC + b"\x02more", "version 2"),
        (recording.MAGIC + b"\x01more", "header is torn"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """Of its own, and in a folder of segments."""
    file = tmp_path / "000001.shards"
    file.write_bytes(content)
    for path in (file, tmp_path):
        with pytest.raises(ConfigError, match=said) as error:
            read(path)
        assert "\n" not in str(error.value)


def test_nothing_there_is_a_config_error(tmp_path: Path) -> None:
    """No file, or a folder without segments."""
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            read(path)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A file, a folder with other files, and one where another recorder writes."""
    (tmp_path / "notes.txt").write_text("mine")
    for path, said in ((tmp_path, "is no recording"), (tmp_path / "notes.txt", "File exists")):
        with pytest.raises(ConfigError, match=said):
            Recorder(path, URL)
    with (
        Recorder(tmp_path / "live", URL) as recorder,
        pytest.raises(ConfigError, match="another recorder"),
    ):
        Recorder(tmp_path / "live", URL)
    recorder.close()
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["notes.txt"]


def test_a_folder_that_may_not_be_entered_is_named(closed_folder: Path) -> None:
    """In one line, to who writes there and to who reads."""
    path = closed_folder / "recording"
    for use in (lambda: Recorder(path, URL), lambda: read(path)):
        with pytest.raises(ConfigError, match=f"^{path}: Permission denied$"):
            use()


FULL = """
import resource, sys
from pathlib import Path
from shardlog.monitor.live.recording import Recorder
from shardlog.crdt.errors import ConfigError, LocalProtocolError
from tests.live.events import moved, whole
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    with Recorder(Path(sys.argv[1]), "tcp://127.0.0.1:7410") as recorder:
        try:
            for number in range(100):
                recorder.write([moved(number, a="x" * 50) if number else whole(0, a=1)])
        finally:
            recorder.write([])
except ConfigError as error:
    print("no error", error)
except LocalProtocolError as error:
    print(error.__context__, error, sep="; ")
"""


def test_a_disk_that_is_full_is_said_and_what_was_written_can_be_read(tmp_path: Path) -> None:
    """One line; all whole events are there, and nothing is written behind the torn one."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    told = list(read(tmp_path))

    assert done.stdout == f"{tmp_path}: File too large; this recorder is closed\n"
    assert len(told) > 10
    assert told[0] == whole(0, a=1)
    assert isinstance(told[-1], Doubt)


def test_counts_are_those_of_what_was_written(tmp_path: Path) -> None:
    """Events and rows without those of openings, bytes with them."""
    events: list[Event] = [
        whole(0, a=0, b=1),
        *(moved(number, a=number) for number in range(1, 100)),
    ]
    with Recorder(tmp_path, URL, segment_bytes=500) as recorder:
        recorder.write(events)

        assert (recorder.events, recorder.rows) == (100, 101)
        assert recorder.size == sum(file.stat().st_size for file in files(tmp_path))
