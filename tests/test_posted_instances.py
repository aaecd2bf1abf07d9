"""Tests of posted bodies: every form becomes a record, every mistake is told with its place."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacherd.consumers.decoding import JSON, NPY, Decoder, DecodingConfig
from teacherd.consumers.instance import Instance
from teacherd.consumers.producing import PNG, encode_npy, encode_png
from teacherd.consumers.record import NewRecord, Partition, Record
from teacherd.consumers.record_batch import RecordBatch
from teacherd.daemon.posted_instances import RefusedPostError, read_posted

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
LIMITS = DecodingConfig(max_record_bytes=4000, max_header_bytes=400)


def read(instances: list[Any], limits: DecodingConfig = LIMITS) -> list[NewRecord]:
    """Read instances posted as JSON."""
    return read_posted(json.dumps({"instances": instances}).encode(), JSON, {}, limits)


def refused(body: bytes, content_type: str = JSON, **query: str) -> dict[str, str]:
    """Return what is wrong with a request, by key."""
    with pytest.raises(RefusedPostError) as caught:
        read_posted(body, content_type, query, LIMITS)
    return {problem.key: problem.message for problem in caught.value.problems}


def decoded(record: NewRecord, shape: tuple[int, ...]) -> Instance:
    """Return what the daemon makes of a record."""
    made = Decoder(LIMITS, input_shape=shape, classes=("cat", "dog"))
    stamped = Record(Partition("t", 0), 1, record.key, record.headers, record.value, 1000)
    (result,) = made.decode_batch(RecordBatch.of([stamped]))
    made.close()
    assert isinstance(result, Instance), result
    return result


def b64(value: bytes) -> str:
    """Return base64."""
    return base64.b64encode(value).decode()


def test_each_form_is_an_instance_for_the_decoder() -> None:
    """Image, features, and any value with its type."""
    features = np.array([1.5, -2], np.float32)
    picture, numbers, array = read(
        [
            {"image": b64(encode_png(IMAGE)), "label": "cat", "id": "a", "key": "k"},
            {"features": [1.5, -2], "label": 1, "event_time": "1970-01-01T00:00:02Z"},
            {"value": b64(encode_npy(features)), "content_type": NPY, "label": "dog"},
        ]
    )

    first = decoded(picture, (3, 8, 8))
    assert np.array_equal(IMAGE, first.array)
    assert (0, b"a", b"k") == (first.label, first.id, picture.key)
    second = decoded(numbers, (2,))
    assert [1.5, -2] == second.array.tolist()
    assert (1, None, 2000) == (second.label, second.id, second.event_time_ms)
    third = decoded(array, (2,))
    assert (features.tolist(), 1) == (third.array.tolist(), third.label)


@pytest.mark.parametrize("content_type", [PNG, "image/png; x=y"])
def test_a_body_of_another_type_is_one_instance(content_type: str) -> None:
    """Described by the query; what is not said is left out."""
    value = encode_png(IMAGE)
    (bare,) = read_posted(value, content_type, {"label": "cat"}, LIMITS)
    query = {"label": "1", "id": "x", "event_time": "5", "key": "k"}
    (full,) = read_posted(value, content_type, query, LIMITS)

    assert NewRecord(value, (("content-type", content_type.encode()), ("label", b"cat"))) == bare
    assert (1, b"x", 5) == (
        decoded(full, (3, 8, 8)).label,
        decoded(full, (3, 8, 8)).id,
        decoded(full, (3, 8, 8)).event_time_ms,
    )
    assert b"k" == full.key


def test_json_with_a_query_is_one_instance() -> None:
    """The query tells a value from a list of instances."""
    (record,) = read_posted(b'{"features": [1, 2]}', JSON, {"label": "cat"}, LIMITS)

    assert [1, 2] == decoded(record, (2,)).array.tolist()


def test_everything_wrong_is_told_at_once_with_its_place() -> None:
    """Key, value, rule and fix of each; what is right beside it is not taken either."""
    good = {"features": [1], "label": "cat"}
    with pytest.raises(RefusedPostError) as caught:
        read(
            [
                good,
                {"features": [1]},
                {"label": "cat"},
                {"features": [1], "image": "", "label": "cat"},
                {"image": "***", "label": "cat"},
                {"image": b64(b"GIF89a"), "label": "cat"},
                {"value": b64(b"x"), "label": "cat"},
                {"value": "", "content_type": NPY, "label": "cat"},
                {"value": b64(bytes(4001)), "content_type": NPY, "label": "cat"},
                {**good, "id": "i" * 257},
                {**good, "event_time": "yesterday"},
                {**good, "label": "l" * 400},
            ]
        )
    problems = {problem.key: problem.message for problem in caught.value.problems}

    assert {
        "instances[1].label": "null: must be the name or index of a class; give it",
        "instances[2]": "none: exactly one of features, image, value must be there",
        "instances[3]": "features and image: exactly one of features, image, value must be there",
        "instances[4].image": "'***': must be base64 without line breaks; encode the bytes",
        "instances[5].image": "holds neither PNG nor JPEG nor WebP; encode it as one",
        "instances[6].content_type": "must be there with `value`, and only with it",
        "instances[7].value": "0 bytes: must have 1 to decoding.max_record_bytes, 4000; resize it",
        "instances[8].value": "4001 bytes: must have 1 to decoding.max_record_bytes, 4000; "
        "resize it",
        "instances[9].id": "257 bytes: must have at most 256; take a shorter one",
        "instances[10].event_time": "'yesterday': must be milliseconds since the epoch or ISO "
        "8601; leave it out for now",
        "instances[11]": "headers of 447 bytes: must have at most decoding.max_header_bytes, 400; "
        "shorten the label",
    } == problems


def test_a_body_that_is_no_request_is_told_where() -> None:
    """Broken JSON, other shapes, unknown fields, wrong types."""
    assert {"instances": "[]: there must be at least one; leave the request out"} == refused(
        b'{"instances": []}'
    )
    assert ["body"] == list(refused(b"{"))
    assert ["body"] == list(refused(b"[" * 100_000))
    assert ["instances"] == list(refused(b"{}"))
    assert ["instances[0].lable"] == list(
        refused(b'{"instances": [{"features": [1], "lable": 1}]}')
    )
    assert (
        "known here: features, image"
        in refused(b'{"instances": [{"lable": 1}]}')["instances[0].lable"]
    )
    assert ["instances[0].features[1]"] == list(
        refused(b'{"instances": [{"features": [1, "x"], "label": 1}]}')
    )
    assert ["instances[0].features"] == list(
        refused(b'{"instances": [{"features": [NaN], "label": 1}]}')
    )


def test_a_request_that_does_not_say_what_it_is_is_refused() -> None:
    """Nor is a form, which any page in a browser may send."""
    assert ["content-type"] == list(refused(b"x", ""))
    assert ["content-type"] == list(refused(b"x", "application/x-www-form-urlencoded", label="1"))
    assert ["colour"] == list(refused(b"x", PNG, label="cat", colour="red"))
    assert ["query.label"] == list(refused(b"x", PNG, id="1"))


def test_a_decoder_of_the_users_own_reads_labels_where_it_likes() -> None:
    """Then none has to be posted."""
    limits = DecodingConfig(decoder="package.module:read")
    (record,) = read([{"value": b64(b"x"), "content_type": "my/type"}], limits)

    assert NewRecord(b"x", (("content-type", b"my/type"),)) == record


@given(st.binary(max_size=60), st.sampled_from([JSON, PNG]))
def test_arbitrary_bodies_are_records_or_a_refusal(body: bytes, content_type: str) -> None:
    """Nothing else is raised."""
    for query in ({}, {"label": "1"}):
        try:
            records = read_posted(body, content_type, query, LIMITS)
        except RefusedPostError:
            continue

        assert records
