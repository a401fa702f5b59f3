"""What is sent, when it is sent again, and what an answer becomes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from pydantic import BaseModel

from trimtab.client import calls
from trimtab.client.calls import Call
from trimtab.client.config import Config, resolve
from trimtab.client.errors import (
    APIError,
    AuthenticationError,
    ClientError,
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    from_answer,
)

CONFIG = Config("http://127.0.0.1:8700", "tt_key")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Thing(BaseModel):
    id: int


class TestConfig:
    def test_arguments_win_over_the_environment(self) -> None:
        config = resolve("http://a:1/", "tt_mine", 5, 2, {"TRIMTAB_URL": "http://b:2", "TRIMTAB_API_KEY": "tt_other"})
        assert (config.url, config.api_key, config.timeout, config.retries) == ("http://a:1", "tt_mine", 5, 2)

    def test_the_environment_fills_in(self) -> None:
        config = resolve(None, None, 5, 2, {"TRIMTAB_URL": "https://b.example", "TRIMTAB_API_KEY": " tt_other\n"})
        assert (config.url, config.api_key) == ("https://b.example", "tt_other")

    def test_an_empty_variable_is_an_absent_one(self) -> None:
        config = resolve(None, None, 5, 2, {"TRIMTAB_URL": "", "TRIMTAB_API_KEY": ""})
        assert (config.url, config.api_key) == ("http://127.0.0.1:8700", None)

    @pytest.mark.parametrize("url", ["localhost:8700", "ftp://a", "http://", "http://a:b", "http://[::1"])
    def test_what_is_no_url_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            resolve(url, None, 5, 2, {})
        assert caught.value.field == "url"

    def test_a_key_that_no_header_can_hold_is_refused(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            resolve(None, "tt_ke\ny", 5, 2, {})
        assert "tt_ke" not in str(caught.value)

    def test_the_key_is_not_shown(self) -> None:
        assert "tt_key" not in repr(CONFIG)

    @pytest.mark.parametrize(
        ("url", "local"),
        [("http://127.0.0.1:1", True), ("http://[::1]:1", True), ("http://localhost", True), ("http://a.b", False)],
    )
    def test_local_servers_are_known(self, url: str, local: bool) -> None:
        assert Config(url, None).local is local


class TestPrepare:
    def test_query_leaves_out_what_is_none_and_writes_times_in_utc(self) -> None:
        east = timezone(timedelta(hours=2))
        query = {
            "a": None,
            "b": True,
            "start": datetime(2026, 5, 1, 14, tzinfo=east),
            "q": "a&b=c/d",
            "step": timedelta(minutes=5),
        }
        prepared = calls.prepare(Call("GET", "/models", query), CONFIG)
        assert prepared.url == (
            "http://127.0.0.1:8700/api/v1/models?b=true&start=2026-05-01T12%3A00%3A00Z&q=a%26b%3Dc%2Fd&step=300"
        )
        assert prepared.content is None
        assert prepared.headers["authorization"] == "Bearer tt_key"

    def test_without_a_key_no_authorization_is_sent(self) -> None:
        assert "authorization" not in calls.prepare(Call("GET", "/x"), Config("http://a", None)).headers

    def test_only_posts_carry_an_idempotency_key_and_each_its_own(self) -> None:
        first, second = (calls.prepare(Call("POST", "/x", body={}), CONFIG) for _ in range(2))
        assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
        assert "idempotency-key" not in calls.prepare(Call("GET", "/x"), CONFIG).headers

    def test_body_leaves_out_absent_members_but_keeps_nulls_inside(self) -> None:
        body = {"id": UUID(int=1), "none": None, "config": {"stop": None}, "at": NOW, "many": (1, 2)}
        content = calls.prepare(Call("POST", "/x", body=body), CONFIG).content
        assert content is not None
        assert json.loads(content) == {
            "id": "00000000-0000-0000-0000-000000000001",
            "config": {"stop": None},
            "at": "2026-05-01T12:00:00Z",
            "many": [1, 2],
        }

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
    def test_what_json_cannot_hold_is_refused(self, value: object) -> None:
        with pytest.raises(ConfigurationError, match="JSON"):
            calls.prepare(Call("POST", "/x", body={"value": value}), CONFIG)

    def test_a_time_without_a_zone_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="time zone"):
            calls.prepare(Call("GET", "/x", {"start": datetime(2026, 5, 1)}), CONFIG)

    def test_if_match_is_an_entity_tag(self) -> None:
        assert calls.prepare(Call("PATCH", "/x", if_match=3), CONFIG).headers["if-match"] == '"3"'


class TestPath:
    def test_ids_are_quoted(self) -> None:
        assert calls.path("models", "a/../b c", UUID(int=2)) == (
            "/models/a%2F..%2Fb%20c/00000000-0000-0000-0000-000000000002"
        )

    def test_an_empty_id_is_refused(self) -> None:
        with pytest.raises(ConfigurationError):
            calls.path("models", "")


class TestAnswers:
    def test_a_result_is_typed(self) -> None:
        assert calls.parse(200, {}, b'{"id": 7, "new": 1}', Thing).id == 7

    def test_an_answer_of_another_shape_says_where(self) -> None:
        with pytest.raises(ClientError, match=r"Thing, id: .*another version"):
            calls.parse(200, {}, b'{"id": "x"}', Thing)

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, InvalidRequestError),
            (401, AuthenticationError),
            (403, PermissionDeniedError),
            (404, NotFoundError),
            (409, ConflictError),
            (412, ConflictError),
            (413, InvalidRequestError),
            (422, InvalidRequestError),
            (429, RateLimitedError),
            (500, ServerError),
            (503, ServerError),
        ],
    )
    def test_errors_have_a_class_by_kind(self, status: int, kind: type[APIError]) -> None:
        problem = {"code": "some_code", "detail": "what is wrong", "field": "name", "extra": [1]}
        with pytest.raises(APIError) as caught:
            calls.parse(status, {"x-request-id": "r1"}, json.dumps(problem).encode(), Thing)
        error = caught.value
        assert type(error) is kind
        assert (error.status, error.code, error.field, error.request_id) == (status, "some_code", "name", "r1")
        assert error.problem == problem
        assert str(error) == "what is wrong"

    def test_an_error_that_is_no_problem_document_is_quoted(self) -> None:
        error = from_answer(502, {}, b"<html>\n  Bad  gateway\xff</html>")
        assert (error.code, error.field) == ("http_502", None)
        assert "Bad gateway" in str(error)

    def test_an_empty_error_still_says_something(self) -> None:
        assert str(from_answer(404, {}, b"")) == "the server answered 404"


class TestRepeating:
    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_passing_troubles_are_repeated(self, status: int) -> None:
        assert calls.may_repeat(status, b"")

    @pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 412, 422, 500])
    def test_others_are_not(self, status: int) -> None:
        assert not calls.may_repeat(status, b'{"code":"conflict"}')

    def test_the_server_may_say_that_it_is_of_no_use(self) -> None:
        assert not calls.may_repeat(502, b'{"code": "x", "retryable": false}')
        assert not calls.may_repeat(502, b'{"code": "endpoint_unreachable", "retryable": true}')

    def test_a_first_request_that_still_runs_is_waited_for(self) -> None:
        assert calls.may_repeat(409, b'{"code": "in_progress"}')

    def test_delays_grow_to_a_bound_and_are_spread(self) -> None:
        assert [calls.delay(n, 1.0, None, NOW) for n in (1, 2, 3, 10)] == [0.25, 0.5, 1.0, 8.0]
        assert calls.delay(1, 0.0, None, NOW) == 0.125

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("3", 3.0),
            ("1.5", 1.5),
            ("Fri, 01 May 2026 12:00:20 GMT", 20.0),
            ("Fri, 01 May 2026 11:00:00 GMT", 0.125),
            ("86400", 60.0),
            ("soon", 0.125),
            ("-5", 0.125),
        ],
    )
    def test_retry_after_is_obeyed(self, header: str, seconds: float) -> None:
        assert calls.delay(1, 0.0, header, NOW) == seconds
