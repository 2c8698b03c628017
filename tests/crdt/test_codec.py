"""Messages and bytes: round trips, and bytes that are no message."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.counter import PART_MAX
from shardlog.crdt.delta import (
    Entry,
    Erase,
    Forgotten,
    Fragment,
    Total,
    Write,
    item_bytes,
    published,
)
from shardlog.crdt.entry import reset_by
from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.path import path_text
from shardlog.crdt.replication.messages import (
    Changes,
    Delta,
    Heard,
    Heartbeat,
    HostStatus,
    Member,
    PassDown,
    RecordClock,
    Report,
    Roster,
    RosterRequest,
    Row,
    SnapshotChunk,
    SnapshotRequest,
)
from shardlog.crdt.wire.codec import (
    decode_from_above,
    decode_from_below,
    decode_from_twin,
    decode_published,
    decode_report,
    decode_request,
    decode_stream,
    decode_value,
    encode,
    encode_published,
    encode_value,
)
from shardlog.crdt.wire.schema import FRAME_BYTES_MAX, HEARTBEAT_TOPIC, VERSION, Message

Decode = Callable[[bytes], Message]

BIG = 2**63 - 1
NATURAL = st.sampled_from([0, 1, 1_764_063_000_123_456_789, BIG])
KEY = st.one_of(st.sampled_from(["a", "a/b", "*", "\\", "", "~"]), st.integers(-3, 3))
PATH = st.lists(KEY, min_size=1, max_size=3).map(path_text)
NAME = st.sampled_from(["", "scraper-1@node:1:2:3:4", "é\U0001f600"])
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=4),
    st.binary(max_size=4),
)
VALUE: st.SearchStrategy[Any] = st.one_of(
    SCALAR,
    st.just({}),
    st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3), max_leaves=6).map(
        lambda value: [value]
    ),
)
TREE: st.SearchStrategy[Any] = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)
PART = st.sampled_from([0, 1, 10**9, PART_MAX])
AMOUNT = st.one_of(PART, st.tuples(PART, PART, PART, st.integers(1, PART_MAX)))

WRITE = st.builds(Write, PATH, NATURAL, st.just(0), VALUE)
ERASE = st.builds(Erase, PATH, NATURAL, st.just(0))
TOTAL = st.builds(Total, PATH, NATURAL, NATURAL, NATURAL, AMOUNT)
NEW_ENTRY = st.builds(Entry, PATH, NATURAL, AMOUNT)
ENTRY = st.one_of(NEW_ENTRY, st.builds(reset_by, NEW_ENTRY, NATURAL))
REPORT = st.builds(
    Report,
    NAME,
    NATURAL,
    NATURAL,
    st.booleans(),
    st.lists(WRITE, max_size=2),
    st.lists(ERASE, max_size=2),
    st.lists(TOTAL, max_size=2),
)
FRAGMENT = st.builds(
    Fragment,
    NAME,
    NATURAL,
    NATURAL,
    st.lists(NAME, min_size=1, max_size=2),
    st.lists(WRITE, max_size=2),
    st.lists(ERASE, max_size=2),
    st.lists(ENTRY, max_size=2),
    st.lists(st.builds(Forgotten, PATH, NATURAL), max_size=2),
)
ROW = st.builds(Row, PATH, st.sampled_from([0, 1, 2, 3]), VALUE, NATURAL, st.integers(-1, 0))
CHANGES = st.builds(Changes, st.lists(NAME, min_size=1, max_size=2), st.lists(ROW, max_size=2))
BODY = st.one_of(FRAGMENT, CHANGES)
STATUS = st.builds(
    HostStatus,
    NAME,
    NAME,
    st.sampled_from(["live", "syncing", "stale"]),
    NATURAL,
    NATURAL,
    offset_ns=st.integers(-(2**62), 2**62),
)
SEQUENCES = st.lists(NATURAL, min_size=1, max_size=3)
DELTA = st.builds(Delta, NAME, NAME, st.integers(0, 63), NATURAL, BODY)
HEARTBEAT = st.builds(
    Heartbeat,
    NAME,
    NAME,
    NATURAL,
    NATURAL,
    SEQUENCES,
    st.lists(STATUS, max_size=2),
    st.dictionaries(NAME, NATURAL, max_size=2),
)
REQUEST = st.builds(SnapshotRequest, NATURAL, st.one_of(st.none(), PATH))
CHUNK = st.builds(
    SnapshotChunk,
    NAME,
    NAME,
    NATURAL,
    st.one_of(st.none(), PATH),
    st.one_of(st.none(), PATH),
    SEQUENCES,
    BODY,
)
EMPTY: Any = ("s", 0, 5, [], [], [], [])
CASES: list[tuple[Decode, Message]] = [
    (
        decode_report,
        Report(
            "p@h:1:2:3:4",
            7,
            5,
            True,
            [Write("a/\\i42", 3, 0, ["x", b"y", 1.5, None]), Write("b", 3, 0, {})],
            [Erase("a\\/b", 4, 0)],
            [Total("n", 1, 2, 3, 4), Total("m", 1, 2, 3, (1, 2, 3, 4))],
            counted=(1, 2, 3, 4),
            since=6,
        ),
    ),
    (
        decode_stream,
        Delta("s", "e", 3, 9, Changes(["p"], [Row("a", 1, 2.5, 3, -1), Row("b", 0, [], 3, 0)])),
    ),
    (
        decode_stream,
        SnapshotChunk(
            "s",
            "e",
            1,
            None,
            "a",
            [1, 2],
            Fragment(
                "r",
                0,
                5,
                ["p"],
                [Write("a", 1, 0, "x")],
                [],
                [Entry("n", 2, 3), Entry("m", 2, 3, 2, 1)],
            ),
        ),
    ),
    (
        decode_stream,
        Heartbeat("s", "e", 5, 1000, [4], [HostStatus("h", "r", "live", 0, 5)], {"size": 1}),
    ),
    (decode_request, SnapshotRequest(3, "a/b")),
    (
        decode_from_above,
        PassDown(
            4,
            [RecordClock("intents/1", 5)],
            ["p"],
            [Erase("intents/1/a", 6, 0)],
            [Member("r", "h")],
        ),
    ),
    (decode_from_above, SnapshotRequest(3, "a/b", "r", "run", 5)),
    (decode_from_below, Heard(4)),
    (decode_from_below, SnapshotRequest(3, "a/b", "r")),
    (decode_from_below, RosterRequest("r")),
    (decode_from_below, SnapshotChunk("s", "e", 1, None, None, [1], Fragment(*EMPTY), "via")),
    (decode_from_twin, SnapshotChunk("s", "e", 1, None, None, [], Fragment(*EMPTY))),
    (decode_from_twin, Roster("a", "b", [HostStatus("h", "r", "stale", 1, 5, 7, "why", ["q"])])),
]
TAKES: dict[Decode, tuple[type, ...]] = {
    decode_report: (Report,),
    decode_stream: (Delta, Heartbeat, SnapshotChunk),
    decode_request: (SnapshotRequest,),
    decode_from_above: (SnapshotRequest, PassDown),
    decode_from_below: (SnapshotChunk, Heard, SnapshotRequest, RosterRequest),
    decode_from_twin: (SnapshotChunk, Roster),
}
DECODERS: list[Decode] = [*TAKES, decode_published]


def reason_of(decode: Decode, frame: bytes) -> str | None:
    """Why a frame is refused, None if it is taken; any other exception goes through."""
    try:
        decode(frame)
    except RemoteProtocolError as error:
        return error.reason
    return None


def frame_of(raw: Any) -> bytes:
    """A frame with this msgpack value in it."""
    return bytes([VERSION]) + msgspec.msgpack.encode(raw)


@given(REPORT)
def test_reports_survive(report: Report) -> None:
    """What a handler sent is what the collector reads."""
    assert decode_report(encode(report)) == report


@given(st.one_of(DELTA, HEARTBEAT))
def test_published_messages_survive_behind_their_topic(message: Delta | Heartbeat) -> None:
    """The topic is the lane, 255 for heartbeats; behind it is the message."""
    frame = encode_published(message)

    assert frame[0] == (message.lane if isinstance(message, Delta) else HEARTBEAT_TOPIC)
    assert decode_published(frame) == message
    assert decode_stream(frame[1:]) == message


@given(CHUNK, REQUEST)
def test_snapshots_survive(chunk: SnapshotChunk, request: SnapshotRequest) -> None:
    """Requests one way, chunks the other."""
    assert decode_stream(encode(chunk)) == chunk
    assert decode_request(encode(request)) == request


@given(VALUE)
def test_values_survive_with_their_types(value: Any) -> None:
    """Alone and within a message: 1, 1.0 and True stay apart, str and bytes too."""
    report = decode_report(encode(Report("p", 1, 1, False, [Write("a", 1, 0, value)], [], [])))

    assert repr(report.writes[0].value) == repr(value)
    assert repr(decode_value(encode_value(value))) == repr(value)


@given(st.one_of(WRITE, ERASE, TOTAL, ENTRY))
def test_the_size_of_an_item_is_never_estimated_too_small(
    item: Write | Erase | Total | Entry,
) -> None:
    """Messages are filled by the estimate: they must not become larger than meant."""
    sent = published(item) if isinstance(item, Entry) else item
    assert len(msgspec.msgpack.encode(sent)) <= item_bytes(item)


def test_only_the_owner_of_an_entry_knows_when_it_was_born() -> None:
    """It is not published; a base and a reset are, where there are any."""
    entries = [Entry("n", 9, 7, born=1), Entry("m", 9, 7, base=5, reset=4, born=1)]
    heard = decode_stream(encode(Delta("s", "e", 0, 1, Fragment("r", 0, 1, [], [], [], entries))))

    assert isinstance(heard, Delta)
    assert isinstance(heard.body, Fragment)
    assert heard.body.entries == [Entry("n", 9, 7), Entry("m", 9, 7, base=5, reset=4)]


@pytest.mark.parametrize(("decode", "message"), CASES)
def test_every_truncation_is_refused(decode: Decode, message: Message) -> None:
    """Wherever a frame is cut it is malformed; cut before its version it has none."""
    frame = encode(message)
    assert decode(frame) == message

    assert reason_of(decode, b"") == "version"
    for end in range(1, len(frame)):
        assert reason_of(decode, frame[:end]) == "malformed"
    assert reason_of(decode, frame + b"\0") == "malformed"


@pytest.mark.parametrize(("decode", "message"), CASES)
def test_every_flipped_bit_is_refused_or_taken(decode: Decode, message: Message) -> None:
    """A changed frame is another message or a RemoteProtocolError, never another exception."""
    frame = encode(message)
    for at in range(len(frame)):
        for bit in range(8):
            changed = bytearray(frame)
            changed[at] ^= 1 << bit
            reason = reason_of(decode, bytes(changed))
            assert reason in (("version",) if at == 0 else (None, "malformed"))


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.binary(max_size=60))
def test_random_bytes_are_refused_or_taken(decode: Decode, data: bytes) -> None:
    """With and without the version in front, on every link."""
    for frame in (data, bytes([VERSION]) + data, bytes([0, VERSION]) + data):
        assert reason_of(decode, frame) in (None, "version", "malformed")


@pytest.mark.parametrize(("decode", "message"), CASES)
@given(data=st.data())
def test_spliced_bytes_are_refused_or_taken(
    decode: Decode, message: Message, data: st.DataObject
) -> None:
    """Any bytes in place of any others: what is close to a message finds more than noise does."""
    frame = encode(message)
    start = data.draw(st.integers(1, len(frame)))
    end = data.draw(st.integers(start, len(frame)))
    piece = data.draw(st.one_of(st.binary(max_size=4), TREE.map(msgspec.msgpack.encode)))

    assert reason_of(decode, frame[:start] + piece + frame[end:]) in (None, "malformed")


@pytest.mark.parametrize("decode", DECODERS)
def test_an_unknown_version_is_told_apart_from_garbage(decode: Decode) -> None:
    """A newer peer is another trouble than a broken one."""
    topic = b"\0" if decode is decode_published else b""
    frame = encode(SnapshotRequest(1, None))
    for version in (0, VERSION + 1, 255):
        assert reason_of(decode, topic + bytes([version]) + frame[1:]) == "version"

    assert reason_of(decode, topic + bytes([VERSION])) == "malformed"


@pytest.mark.parametrize("decode", DECODERS)
def test_a_huge_frame_is_refused_by_its_size(decode: Decode) -> None:
    """Beyond 1 MiB nothing is parsed, whatever it is; a mebibyte itself is taken."""
    assert reason_of(decode, bytes([0, VERSION]) + b"\0" * FRAME_BYTES_MAX) == "size"


def test_a_frame_of_just_the_limit_is_taken() -> None:
    """The limit is the last size that is allowed."""
    others = [Write("b", 1, 0, "x" * 300_000)] * 2
    empty = encode(Report("p", 1, 1, False, [*others, Write("a", 1, 0, "x" * 70_000)], [], []))
    text = "x" * (70_000 + FRAME_BYTES_MAX - len(empty))
    frame = encode(Report("p", 1, 1, False, [*others, Write("a", 1, 0, text)], [], []))
    assert len(frame) == FRAME_BYTES_MAX

    assert reason_of(decode_report, frame) is None
    longer = encode(Report("p", 1, 1, False, [*others, Write("a", 1, 0, text + "x")], [], []))
    assert reason_of(decode_report, longer) == "size"


def deep(levels: int) -> bytes:
    """The msgpack of a list in a list in a list, innermost empty."""
    return b"\x91" * (levels - 1) + b"\x90"


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("levels", [33, 500, 5_000, FRAME_BYTES_MAX - 100])
def test_depth_is_no_recursion_error(decode: Decode, levels: int) -> None:
    """Deep arrays are malformed, in place of the message and as a value in it."""
    topic = b"\0" if decode is decode_published else b""
    assert reason_of(decode, topic + bytes([VERSION]) + deep(levels)) == "malformed"


@pytest.mark.parametrize(
    ("levels", "reason"), [(32, None), (33, "malformed"), (5_000, "malformed")]
)
def test_a_list_as_a_value_has_at_most_32_levels(levels: int, reason: str | None) -> None:
    """In reports and in rows alike."""
    marker = b"\xa6marker"
    report = encode(Report("p", 1, 1, False, [Write("a", 1, 0, "marker")], [], []))
    delta = encode(Delta("s", "e", 0, 1, Changes([], [Row("a", 0, "marker", 1, -1)])))

    assert reason_of(decode_report, report.replace(marker, deep(levels))) == reason
    assert reason_of(decode_stream, delta.replace(marker, deep(levels))) == reason


TIMESTAMP = b"\xd6\xff\x00\x00\x00\x01"
EXTENSION = b"\xd4\x05\x00"
WRONG_VALUES = [
    TIMESTAMP,
    EXTENSION,
    b"\x91" + TIMESTAMP,
    b"\x91" + EXTENSION,
    b"\x91\x80",  # a dict in a list
    b"\x81\xa1a\x01",  # a dict with something in it
    b"\x81\x01\x01",
    b"\x81\x80\x01",  # a dict as a key
    b"\x81\x90\x01",
    b"\xa1\xff",  # no UTF-8
    b"\xa3\xed\xa0\x80",  # a surrogate
    b"\xc1",  # never used in msgpack
    b"\xdd\xff\xff\xff\xff",  # an array of 4 billion
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
]


@pytest.mark.parametrize("raw", WRONG_VALUES)
def test_what_is_no_value_is_refused(raw: bytes) -> None:
    """Dicts, timestamps, extensions, wrong text, and sizes that lie."""
    marker = b"\xa6marker"
    report = encode(Report("p", 1, 1, False, [Write("a", 1, 0, "marker")], [], []))
    delta = encode(Delta("s", "e", 0, 1, Changes([], [Row("a", 0, "marker", 1, -1)])))

    assert reason_of(decode_report, report.replace(marker, raw)) == "malformed"
    assert reason_of(decode_stream, delta.replace(marker, raw)) == "malformed"


@pytest.mark.parametrize(
    "path",
    ["\\", "a/\\x", "\\i", "\\i01", "\\i" + "9" * 5000, "*", "a*b", "a/**", "\\i-0", 5, None, b"a"],
)
def test_a_path_that_is_not_canonical_is_refused(path: object) -> None:
    """Else one place would have two names."""
    for raw in [
        ["report", "p", 1, 1, False, [[path, 1, 0, "x"]], [], []],
        ["report", "p", 1, 1, False, [], [[path, 1, 0]], []],
        ["report", "p", 1, 1, False, [], [], [[path, 1, 1, 1, 5]]],
    ]:
        assert reason_of(decode_report, frame_of(raw)) == "malformed"
    for body in [
        ["fragment", "r", 0, 1, ["p"], [[path, 1, 0, "x"]], [], []],
        ["fragment", "r", 0, 1, ["p"], [], [[path, 1, 0]], []],
        ["fragment", "r", 0, 1, ["p"], [], [], [[path, 1, 1, 5]]],
        ["changes", [], [[path, 0, 1, 1, -1]]],
    ]:
        assert reason_of(decode_stream, frame_of(["delta", "s", "e", 0, 1, body])) == "malformed"


@pytest.mark.parametrize("writer", [-2, 1, 2**40, "p", None, 0.0])
def test_a_writer_that_is_not_in_the_message_is_refused(writer: object) -> None:
    """An index beyond the message's writers, or none; -1 only where nobody need be named."""
    for writer_ in [writer, -1]:
        for raw in [
            ["report", "p", 1, 1, False, [["a", 1, writer_, "x"]], [], []],
            ["report", "p", 1, 1, False, [], [["a", 1, writer_]], []],
        ]:
            assert reason_of(decode_report, frame_of(raw)) == "malformed"
        for body in [
            ["fragment", "r", 0, 1, ["p"], [["a", 1, writer_, "x"]], [], []],
            ["fragment", "r", 0, 1, ["p"], [], [["a", 1, writer_]], []],
        ]:
            raw = ["delta", "s", "e", 0, 1, body]
            assert reason_of(decode_stream, frame_of(raw)) == "malformed"
    raw = ["delta", "s", "e", 0, 1, ["changes", ["p"], [["a", 0, 1, 1, writer]]]]
    assert reason_of(decode_stream, frame_of(raw)) == "malformed"


@pytest.mark.parametrize(
    "amount",
    [-1, 2**63, [5, 0, 0, 0], [0, 0, 0, 0], [1, -1, 0, 1], [0, 0, 0, 2**63], [1, 2], 1.5, "1"],
)
def test_an_amount_that_is_none_is_refused(amount: object) -> None:
    """Negative parts, long forms of short ones, and parts that no store can hold."""
    report = ["report", "p", 1, 1, False, [], [], [["a", 1, 1, 1, amount]]]
    delta = ["delta", "s", "e", 0, 1, ["fragment", "r", 0, 1, [], [], [], [["a", 1, 1, amount]]]]

    assert reason_of(decode_report, frame_of(report)) == "malformed"
    assert reason_of(decode_stream, frame_of(delta)) == "malformed"


@pytest.mark.parametrize("number", [-1, 2**63, 2**64 - 1, True, 1.0, "1", None])
def test_a_number_that_no_store_can_hold_is_refused(number: object) -> None:
    """Stamps, sequences, versions and generations are integers of 63 bits."""
    reports: list[list[object]] = [
        ["report", "p", number, 1, False, [], [], []],
        ["report", "p", 1, number, False, [], [], []],
        ["report", "p", 1, 1, False, [["a", number, 0, "x"]], [], []],
        ["report", "p", 1, 1, False, [], [["a", number, 0]], []],
        ["report", "p", 1, 1, False, [], [], [["a", number, 1, 1, 5]]],
        ["report", "p", 1, 1, False, [], [], [["a", 1, number, 1, 5]]],
        ["report", "p", 1, 1, False, [], [], [["a", 1, 1, number, 5]]],
    ]
    for raw in reports:
        assert reason_of(decode_report, frame_of(raw)) == "malformed"
    messages: list[list[object]] = [
        ["delta", "s", "e", 0, number, ["changes", [], []]],
        ["delta", "s", "e", number, 1, ["changes", [], []]],
        ["delta", "s", "e", 0, 1, ["fragment", "r", number, 1, [], [], [], []]],
        ["delta", "s", "e", 0, 1, ["fragment", "r", 0, number, [], [], [], []]],
        ["delta", "s", "e", 0, 1, ["fragment", "r", 0, 1, [], [], [], [["a", number, 1, 5]]]],
        ["delta", "s", "e", 0, 1, ["fragment", "r", 0, 1, [], [], [], [["a", 1, number, 5]]]],
        ["chunk", "s", "e", number, None, None, [1], ["changes", [], []]],
        ["chunk", "s", "e", 1, None, None, [number], ["changes", [], []]],
        ["heartbeat", "s", "e", number, 1, [1], [], {}],
        ["heartbeat", "s", "e", 1, number, [1], [], {}],
        ["heartbeat", "s", "e", 1, 1, [number], [], {}],
    ]
    for raw in messages:
        assert reason_of(decode_stream, frame_of(raw)) == "malformed"
    assert reason_of(decode_request, frame_of(["request", number, None])) == "malformed"


@pytest.mark.parametrize("offset_ns", [2**62 + 1, -(2**62) - 1, 2**64 - 1, -(2**63)])
def test_an_offset_that_no_clock_has_is_refused(offset_ns: int) -> None:
    """The sum of two that are taken is still one that can be sent."""
    status = HostStatus("h", "r", "live", 1, 1, offset_ns=offset_ns)
    heartbeat = Heartbeat("s", "e", 1, 1, [1], [status], {})

    assert reason_of(decode_stream, encode(heartbeat)) == "malformed"
    assert reason_of(decode_from_twin, encode(Roster(None, None, [status]))) == "malformed"


@pytest.mark.parametrize("message", [message for _, message in CASES])
def test_each_link_takes_its_own_messages_only(message: Message) -> None:
    """A report on the stream, a delta among reports: malformed."""
    for decode, kinds in TAKES.items():
        assert reason_of(decode, encode(message)) == (
            None if isinstance(message, kinds) else "malformed"
        )


@pytest.mark.parametrize(("decode", "message"), CASES)
def test_fields_that_a_later_version_adds_are_passed_over(decode: Decode, message: Message) -> None:
    """Structs grow at the end: what is not known yet does not disturb."""
    raw = [*msgspec.msgpack.decode(encode(message)[1:]), "new", {"field": 1}]

    assert decode(frame_of(raw)) == message


@pytest.mark.parametrize(
    "path",
    ["/".join("a" * 65), "a" * (32 << 10) + "a", "/".join(["a\\/" * 200] * 65)],
    ids=["keys", "characters", "escaped"],
)
def test_a_path_deeper_or_longer_than_any_shard_has_is_refused(path: str) -> None:
    """A merge looks at every prefix of a path: with 30,000 keys these would take a gigabyte."""
    for item in (Write(path, 1, 0, 1), Erase(path, 1, 0), Total(path, 1, 1, 1, 1)):
        said: list[list[Any]] = [[], [], []]
        said[[Write, Erase, Total].index(type(item))].append(item)
        with pytest.raises(RemoteProtocolError, match=r"path|length <= 32768"):
            decode_report(encode(Report("p", 1, 1, False, said[0], said[1], said[2])))


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        (decode_report, Report("p", 1, 1, False, [Write("/" * (16 << 10), 1, 0, 1)], [], [])),
        (decode_stream, Delta("s", "e", 0, 1, Changes([], [Row("/" * (17 << 10), 1, 1, 1, -1)]))),
        (decode_from_above, PassDown(1, [RecordClock("/" * (18 << 10), 1)], [], [])),
    ],
)
def test_a_path_of_slashes_alone_is_refused_in_little_memory(
    decode: Decode, message: Message
) -> None:
    """All its prefixes would be 134 MB, of a frame of 16 KiB; counting its keys takes no more than
    the frame."""
    frame = encode(message)
    tracemalloc.start()
    try:
        assert reason_of(decode, frame) == "malformed"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.lists(st.sampled_from(["", "a", "a/b", "\\", 7]), min_size=60, max_size=68))
def test_a_path_is_refused_for_its_keys_and_not_for_slashes_in_them(keys: list[str | int]) -> None:
    """Up to 64 keys, however many slashes and backslashes are in them."""
    frame = encode(PassDown(1, [RecordClock(path_text(keys), 1)], [], []))
    assert (reason_of(decode_from_above, frame) is None) == (len(keys) <= 64)


def test_the_longest_path_of_a_shard_is_taken() -> None:
    """32 keys of 256 bytes that all have to be escaped, and the longest presence record."""
    shard = path_text(["/" * 256] * 32)
    presence = path_text(("shardlog", "presence", "/" * 256, "/" * 512, "status"))
    for path in (shard, presence):
        report = Report("p", 1, 1, False, [Write(path, 1, 0, 1)], [], [])
        assert decode_report(encode(report)) == report


def test_a_value_that_would_not_fit_into_the_next_frame_is_refused() -> None:
    """What is taken goes on in a fragment, with others: alone it must not fill a whole frame."""
    for value in ("x" * 700_000, b"x" * 700_000, ["x" * 350_000, ["x" * 350_000]]):
        report = Report("p", 1, 1, False, [Write("a", 1, 0, value)], [], [])
        with pytest.raises(RemoteProtocolError, match="value"):
            decode_report(encode(report))
    report = Report("p", 1, 1, False, [Write("a", 1, 0, "\xe9" * 40_000)] * 4, [], [])
    assert decode_report(encode(report)) == report


def test_a_name_longer_than_a_routing_id_is_refused() -> None:
    """Names of streams and hosts are kept, and told on to all who follow: they are short."""
    name = "s" * 256
    for message in (
        Delta(name, "e", 0, 1, Changes([], [])),
        Delta("s", name, 0, 1, Changes([], [])),
        Heartbeat(name, "e", 1, 1, [1], [], {}),
        Heartbeat("s", "e", 1, 1, [1], [HostStatus(name, "s", "live", 1, 1)], {}),
    ):
        with pytest.raises(RemoteProtocolError, match="name"):
            decode_stream(encode(message))


@pytest.mark.parametrize(
    "status",
    [
        HostStatus("h", "r", "live", 1, 1, replaces=["q"] * 33),
        HostStatus("h", "r", "live", 1, 1, replaces=["q" * 256]),
        HostStatus("h", "r", "live", 1, 1, lower_bound="x" * 1001),
        HostStatus("h", "r", "live", 1, 1, retention="x" * 256),
        HostStatus("h", "r", "live", 1, 1, run="x" * 256),
    ],
)
def test_a_status_larger_than_any_node_makes_is_refused(status: HostStatus) -> None:
    """It is told on to all who follow, with those of all other hosts: together they fit a frame."""
    heartbeat = Heartbeat("s", "e", 1, 1, [1], [status], {})
    assert reason_of(decode_stream, encode(heartbeat)) == "malformed"
    assert reason_of(decode_from_twin, encode(Roster(None, None, [status]))) == "malformed"


@pytest.mark.parametrize("field", ["settling", "lower_bound", "retention"])
def test_what_a_node_says_of_itself_at_length_is_refused(field: str) -> None:
    """An aggregator above tells it on."""
    heartbeat = msgspec.structs.replace(
        Heartbeat("s", "e", 1, 1, [1], [], {}), **{field: "x" * 1001}
    )
    assert reason_of(decode_stream, encode(heartbeat)) == "malformed"
