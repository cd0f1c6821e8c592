"""The pure parts: keys, the first line, paths, rates."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.relay.flow import Buckets
from modalflow.relay.handshake import LONGEST_HELLO, PASS_LIFE, check, pass_id, proof
from modalflow.relay.keys import Keys
from modalflow.relay.paths import PREFIX, Refused, below, check_upgrade, comes_back, passes

KEYS = Keys(b"0123456789abcdef", "airflow")
NOW = 1_800_000_000.0
LAUNCH = "0192f0c1-0000-7000-8000-000000000001"
NAME = pass_id(LAUNCH, NOW)
NONCE = "0" * 32


def hello(name: str = NAME, nonce: str = NONCE, key: bytes | None = None, verb: str = "http") -> bytes:
    mac = proof(key or KEYS.of_pass(name), "hello", verb, name, nonce)
    return f"modalflow1 {verb} {name} {nonce} {mac}\n".encode()


def test_every_scheduler_makes_the_same_keys_and_each_relay_and_pass_has_its_own() -> None:
    again = Keys(b"0123456789abcdef", "airflow")
    assert again.host("1") == KEYS.host("1")
    made = [KEYS.host("1"), KEYS.host("2"), KEYS.client("1"), KEYS.client("2"), Keys(b"0123456789abcdeF", "airflow").host("1"),
            Keys(b"0123456789abcdef", "other").host("1")]  # fmt: skip
    assert len({pair.public for pair in made}) == len({pair.private for pair in made}) == len(made)
    assert KEYS.of_pass("a") == again.of_pass("a") != KEYS.of_pass("b")


def test_a_pair_of_keys_does_not_show_its_private_half() -> None:
    pair = KEYS.host("1")
    assert repr(pair) == f"KeyPair({pair.public})"


def test_a_secret_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^expected a secret of 16 bytes or more, got 4$"):
        Keys(b"1234", "airflow")


def test_a_good_hello_is_answered_with_a_proof() -> None:
    caller = check(hello(), KEYS.of_pass, NOW)
    assert caller is not None
    assert (caller.verb, caller.launch_id) == ("http", LAUNCH)
    assert caller.answer == f"ok {proof(KEYS.of_pass(NAME), 'answer', NONCE)}\n".encode()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="HTTP"),
        pytest.param(hello(key=b"wrong"), id="wrong secret"),
        pytest.param(hello(key=Keys(b"another secret of another Airflow", "airflow").of_pass(NAME)), id="another Airflow's"),
        pytest.param(hello(key=Keys(b"0123456789abcdef", "other").of_pass(NAME)), id="another deployment's"),
        pytest.param(hello().replace(b"http", b"relays", 1), id="another verb than proved"),
        pytest.param(hello().replace(b".18", b".19", 1), id="a longer life than issued"),
        pytest.param(hello().replace(NONCE.encode(), b"1" * 32, 1), id="another nonce"),
        pytest.param(hello(verb="admin"), id="unknown verb"),
        pytest.param(hello()[:-1], id="no end"),
        pytest.param(hello() + b"x", id="more than a line"),
        pytest.param(hello(name="x" * 300 + ".1900000000"), id="too long"),
    ],
)
def test_anything_else_is_nobody(line: bytes) -> None:
    assert check(line, KEYS.of_pass, NOW) is None


def test_a_pass_runs_out() -> None:
    assert check(hello(), KEYS.of_pass, NOW + PASS_LIFE - 1) is not None
    assert check(hello(), KEYS.of_pass, NOW + PASS_LIFE) is None


@given(st.binary(max_size=LONGEST_HELLO + 10))
def test_bytes_of_a_stranger_are_nobody(line: bytes) -> None:
    assert check(line, KEYS.of_pass, NOW) is None


@pytest.mark.parametrize(
    "target",
    [
        "/execution/task-instances/0192/run",
        "/execution/xcoms/dag/manual__2026-01-01T00:00:00+00:00/task/return_value?map_index=-1",
        "/execution/variables/a%20key",
        "/execution/variables/a/b",
        "/execution/store/ti/0192/a%2Fb",
        "/execution/store/ti/0192/100%25",
        "/execution/variables/..name",
        "/execution//hitlDetails/1",
        "/execution/",
        "/execution/assets/by-uri?uri=s3://bucket/../x",
    ],
)
def test_paths_of_the_execution_api_come_through_as_they_are(target: str) -> None:
    assert PREFIX + below("GET", target) == target


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404),
        ("/api/v2/dags", 404),
        ("/execution", 404),
        ("/executions/x", 404),
        ("/EXECUTION/x", 404),
        ("//execution/x", 404),
        ("/./execution/x", 404),
        ("/api/../execution/x", 404),
        ("http://evil.example/execution/x", 404),
        ("*", 404),
        ("/execution/../api/v2/dags", 404),
        ("/execution/..", 404),
        ("/execution/./x", 404),
        ("/execution/%2e%2e/api/v2", 404),
        ("/execution/%2E./api/v2", 404),
        ("/execution/x%2f..%2f..%2fapi", 404),
        ("/execution/%252e%252e/api", 404),
        ("/execution/%25252e%25252e/api", 404),
        ("/execution/%2525252525252e%2e/api", 404),
        ("/execution/..;/api", 404),
        ("/execution/..%3b/api", 404),
        ("/execution/..%5capi", 404),
        ("/execution/x%00", 404),
        ("/execution/x%0d%0aHost:%20evil", 404),
        ("/execution/..\\api", 400),
        ("/execution/x y", 400),
        ("/execution/\x7f", 400),
        ("/execution/ü", 400),
        ("/execution/x?a=\r\nb", 400),
        ("/execution/x#y", 400),
        ("/execution/" + "x" * 8200, 404),
    ],
)
def test_other_paths_do_not(target: str, status: int) -> None:
    with pytest.raises(Refused) as refused:
        below("GET", target)
    assert refused.value.status == status


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", ""])
def test_other_methods_do_not(method: str) -> None:
    with pytest.raises(Refused, match=r"^this method is not the execution API's$"):
        below(method, "/execution/x")


@given(st.text(string.ascii_letters + "./\\%2eEfF5cC;", max_size=40))
def test_no_reading_of_a_path_that_comes_through_leads_out(rest: str) -> None:
    from urllib.parse import unquote

    try:
        path = PREFIX + below("GET", PREFIX + rest)
    except Refused:
        return
    for _ in range(6):
        depth = 0
        for segment in path.replace("\\", "/").removeprefix(PREFIX).split("/"):
            depth += {"..": -1, ".": 0}.get(segment.split(";")[0], 1)
            assert depth >= 0
        path = unquote(path)


def test_another_protocol_is_refused() -> None:
    for name in ("Upgrade", "HTTP2-Settings"):
        with pytest.raises(Refused, match=r"^the execution API speaks HTTP only$"):
            check_upgrade([name])
    check_upgrade(["Connection", "Accept"])


def test_headers_that_say_who_calls_or_by_which_name_stay_behind() -> None:
    assert all(map(passes, ["Authorization", "content-type", "Airflow-API-Version", "Correlation-Id"]))
    behind = ["Host", "Cookie", "X-Forwarded-For", "Forwarded", "X-Original-URL", "Connection", "Transfer-Encoding", "Via"]
    assert not any(map(passes, behind))
    assert all(map(comes_back, ["Refreshed-API-Token", "Content-Type"]))
    assert not any(map(comes_back, ["Set-Cookie", "Location", "Server", "X-Internal"]))


def test_a_caller_is_slowed_down_then_refused_and_others_are_not() -> None:
    buckets = Buckets(rate=10, burst=2)
    waits = [buckets.take("a", 0.0, patience=0.15) for _ in range(4)]
    assert waits == [0.0, 0.0, pytest.approx(0.1), None]
    assert buckets.take("b", 0.0, patience=0.15) == 0.0
    assert buckets.take("a", 0.2, patience=0.15) == 0.0


def test_buckets_are_kept_for_the_latest_callers_only() -> None:
    buckets = Buckets(rate=1, burst=1, kept=2)
    for caller in ("a", "b", "c"):
        buckets.take(caller, 0.0, patience=0)
    assert buckets.take("a", 0.0, patience=0) == 0.0, "forgotten, so full again"
    assert buckets.take("c", 0.0, patience=0) is None
