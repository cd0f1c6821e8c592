"""Dicts: what the client's methods do, and what is told where they cannot."""

from __future__ import annotations

import modal
import pytest
from grpclib import Status
from modal.exception import AlreadyExistsError, InvalidError, NotFoundError, RequestSizeError
from modal_proto import api_pb2

from modalflow.emulator import EmulatorThread
from modalflow.emulator.services import dicts as service
from modalflow.emulator.state.dicts import ENTRY_SECONDS, ModalDict
from modalflow.emulator.state.named import EPHEMERAL_SECONDS, NamedObject, Objects
from tests.emulator.conftest import connect, rpc


@pytest.fixture
def named(workspace_client: modal.Client) -> modal.Dict:
    return modal.Dict.from_name("a-dict", create_if_missing=True, client=workspace_client)


def test_values_of_any_kind_under_keys_of_any_kind(named: modal.Dict) -> None:
    named["text"] = {"nested": [1, None]}
    named[("a", 1)] = b"bytes"
    named["none"] = None
    assert (named["text"], named[("a", 1)], named["none"]) == ({"nested": [1, None]}, b"bytes", None)
    assert named.get("missing", "default") == "default"
    assert (named.contains("none"), named.contains("missing"), named.len()) == (True, False, 3)
    with pytest.raises(KeyError, match="missing not in dict di-"):
        named["missing"]


def test_update_put_and_pop(named: modal.Dict) -> None:
    named.update({"a": 1, "b": 2}, b=3, c=4)
    assert sorted(named.items()) == [("a", 1), ("b", 3), ("c", 4)]
    assert (sorted(named.keys()), sorted(named.values())) == (["a", "b", "c"], [1, 3, 4])
    assert named.put("a", 5)
    assert not named.put("a", 6, skip_if_exists=True)
    assert named.put("d", 7, skip_if_exists=True)
    assert (named["a"], named["d"]) == (5, 7)
    assert (named.pop("a"), named.pop("a", None)) == (5, None)
    with pytest.raises(KeyError):
        named.pop("a")
    named.clear()
    assert (named.len(), list(named.items())) == (0, [])


def test_a_dict_is_found_made_and_deleted_by_name(workspace_client: modal.Client) -> None:
    objects = modal.Dict.objects
    with pytest.raises(NotFoundError, match="Dict 'one' not found in environment 'main'"):
        modal.Dict.from_name("one", client=workspace_client).hydrate()
    objects.create("one", client=workspace_client)
    with pytest.raises(AlreadyExistsError, match="Dict 'one' already exists in environment 'main'"):
        objects.create("one", client=workspace_client)
    objects.create("one", allow_existing=True, client=workspace_client)
    found = modal.Dict.from_name("one", client=workspace_client)
    info = found.info()
    assert (info.name, info.created_by) == ("one", "emulator")
    same = modal.Dict.from_id(found.object_id, client=workspace_client)
    same["key"] = "value"
    assert found["key"] == "value"
    objects.delete("one", client=workspace_client)
    with pytest.raises(NotFoundError, match=f"Dict '{found.object_id}' not found"):
        found.get("key")
    objects.delete("one", allow_missing=True, client=workspace_client)


def test_a_list_longer_than_a_page_is_whole(workspace_client: modal.Client) -> None:
    names = [f"dict-{number}" for number in range(105)]
    for name in names:
        modal.Dict.objects.create(name, client=workspace_client)
    listed = modal.Dict.objects.list(client=workspace_client)
    assert [one.name for one in listed] == names[::-1]
    assert [one.name for one in modal.Dict.objects.list(max_objects=2, client=workspace_client)] == ["dict-104", "dict-103"]


def test_an_ephemeral_dict_is_not_listed_and_heard_of(workspace_client: modal.Client, shared_emulator: EmulatorThread) -> None:
    with modal.Dict.ephemeral(client=workspace_client) as one:
        one["key"] = 1
        assert one["key"] == 1
        assert one.info().name is None
        assert modal.Dict.objects.list(client=workspace_client) == []
    assert api_pb2.DictHeartbeatRequest(dict_id=one.object_id) in shared_emulator.calls("DictHeartbeat")


def test_a_retried_put_gets_the_first_answer(named: modal.Dict, shared_emulator: EmulatorThread) -> None:
    named.hydrate()
    fault = shared_emulator.faults.add("DictUpdate", status=Status.UNAVAILABLE, after_handler=True)
    assert named.put("key", 1, skip_if_exists=True)
    assert fault.hits == 1


def test_too_many_and_too_large_entries_are_refused(named: modal.Dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_UPDATE_ENTRIES", 3)
    with pytest.raises(InvalidError, match=r"Dict\.update: at most 3 entries at once, got 4"):
        named.update({str(number): number for number in range(4)})
    monkeypatch.setattr(service, "MAX_UPDATE_BYTES", 1000)
    with pytest.raises(RequestSizeError, match=r"Dict\.put request is too large"):
        named["key"] = b"x" * 1001
    assert named.len() == 0


@pytest.mark.parametrize("name", ["has space", "has/slash", "a" * 65, "ap-" + "a" * 22, ""])
def test_names_are_checked_for_clients_that_do_not(workspace_client: modal.Client, name: str) -> None:
    request = api_pb2.DictGetOrCreateRequest(
        deployment_name=name, object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING
    )
    with pytest.raises(InvalidError, match="Invalid Dict name"):
        rpc(workspace_client, "DictGetOrCreate", request)


def test_workspaces_do_not_see_each_others_dicts(named: modal.Dict, shared_emulator: EmulatorThread) -> None:
    named["key"] = "secret"
    other = connect(shared_emulator, MODAL_TOKEN_ID="ak-other", MODAL_TOKEN_SECRET="as-other")
    with pytest.raises(NotFoundError):
        modal.Dict.from_id(named.object_id, client=other).get("key")
    other.close()


# -- time


def test_the_emulators_clock_ends_entries_and_ephemeral_dicts(
    workspace_client: modal.Client, named: modal.Dict, shared_emulator: EmulatorThread
) -> None:
    named["key"] = 1
    with modal.Dict.ephemeral(client=workspace_client) as one:
        one["key"] = 1
        shared_emulator.clock.advance(ENTRY_SECONDS + 1)
        with pytest.raises(NotFoundError):
            one["key"]
    assert "key" not in named


def modal_dict() -> ModalDict:
    return ModalDict(object_id="di-1", name="d", environment="main", created_at=0.0, heard_at=0.0)


def test_an_entry_ends_seven_days_after_its_last_use() -> None:
    one = modal_dict()
    one.update({b"read": b"1", b"idle": b"2"}, 0.0, if_not_exists=False)
    assert one.get(b"read", ENTRY_SECONDS) == b"1"
    later = ENTRY_SECONDS + 1
    assert (one.get(b"read", later), one.get(b"idle", later)) == (b"1", None)
    assert one.count(later) == 1
    assert one.update({b"idle": b"3"}, later, if_not_exists=True)
    assert one.items(later * 3) == []


def test_an_unnamed_object_ends_without_heartbeats_a_named_one_does_not() -> None:
    objects: Objects[NamedObject] = Objects()
    for object_id, name in (("named", "n"), ("unnamed", "")):
        objects.add(NamedObject(object_id=object_id, name=name, environment="main", created_at=0.0, heard_at=0.0))
    assert objects.get("unnamed", EPHEMERAL_SECONDS) is not None
    assert objects.get("unnamed", EPHEMERAL_SECONDS + 1) is None
    assert objects.get("named", EPHEMERAL_SECONDS * 100) is not None
    assert len(objects) == 1
