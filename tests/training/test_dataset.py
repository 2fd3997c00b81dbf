"""The dataset directory: what is written is read back, and damage is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from browsing.pages import PageRules
from training.dataset import (
    RETURNS,
    SPLITS,
    VISITS_COLUMNS,
    Counts,
    Dataset,
    DatasetError,
    DatasetInfo,
    DatasetWriter,
    Sample,
    Source,
    sample_schema,
    users_of,
)

SAMPLE = Sample(
    user_id="u1",
    history=(("/", "/bags"), ("/cart",)),
    history_started_at=(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    next_session=("/bags", "/never-seen"),
    next_started_at=datetime(2026, 1, 3, tzinfo=UTC),
)


def info() -> DatasetInfo:
    return DatasetInfo(
        source=Source(format="events", files=()),
        settings={},
        filters={},
        counts=Counts(
            rows=5,
            bad_rows={"missing user": 1},
            not_views=0,
            events=4,
            users=1,
            sessions=3,
            short_sessions=0,
            long_sessions=0,
            eligible_users=1,
            sampled_users=1,
            samples={"train": 1},
            pages=3,
            pages_seen=4,
            unknown_share=0.25,
        ),
        split="user",
        window_start="2026-01-01T00:00:00+00:00",
        window_end="2026-01-03T00:00:00+00:00",
        rule_version=PageRules().version,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pages = pl.DataFrame(
        {"page": ["/cart", "/", "/bags"], "kind": ["cart", "page", "page"], "views": [1, 9, 5], "users": [1, 7, 5]}
    )
    with DatasetWriter(tmp_path) as writer:
        writer.add("train", [SAMPLE])
        writer.add("train", [SAMPLE, SAMPLE])
        writer.finish(pages, PageRules(), info())
    return tmp_path


def test_samples_come_back_equal(root: Path) -> None:
    dataset = Dataset.load(root)
    assert dataset.samples("train") == [SAMPLE] * 3
    assert dataset.samples("train")[0].next_started_at.utcoffset() is not None
    assert [dataset.samples(split) for split in SPLITS[1:]] == [[], [], []]


def test_a_user_with_several_samples_counts_once() -> None:
    assert users_of([SAMPLE, replace(SAMPLE, user_id="u2"), SAMPLE]) == 2
    assert users_of([]) == 0


def test_vocabulary_has_the_order_of_the_file(root: Path) -> None:
    dataset = Dataset.load(root)
    assert dataset.vocabulary().pages == ("/cart", "/", "/bags")
    assert dataset.outcomes() == {"cart": ("/cart",)}  # no purchase was ever seen
    assert dataset.rules == PageRules()
    assert set(dataset.info.hashes) == {*(f"{s}.parquet" for s in SPLITS), "pages.parquet", "pages.json"}


def test_context_columns_are_kept(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user_id": ["u"],
            "history": [[["/"]]],
            "history_started_at": [[datetime(2026, 1, 1, tzinfo=UTC)]],
            "next_session": [["/"]],
            "next_started_at": [datetime(2026, 1, 2, tzinfo=UTC)],
            "device": [["phone"]],
        }
    )
    with DatasetWriter(tmp_path, ["device"]) as writer:
        writer.add("test", frame)
        writer.add("test", frame.clear())
    assert pl.read_parquet(tmp_path / "test.parquet")["device"].to_list() == [["phone"]]
    assert sample_schema(["device"]).names[-1] == "device"


@pytest.mark.parametrize("name", ["pages.parquet", "pages.json", "dataset.json", "test.parquet"])
def test_a_missing_file_is_named(root: Path, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(DatasetError, match=name):
        Dataset.load(root)


@pytest.mark.parametrize("name", ["pages.json", "pages.parquet"])
def test_a_changed_file_is_named(root: Path, name: str) -> None:
    with (root / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(DatasetError, match=f"{name}: changed"):
        Dataset.load(root)


def test_changed_samples_are_noticed_when_read(root: Path) -> None:
    dataset = Dataset.load(root)
    (root / "train.parquet").write_bytes((root / "test.parquet").read_bytes())
    with pytest.raises(DatasetError, match=r"train\.parquet: changed"):
        dataset.samples("train")
    (root / "train.parquet").unlink()
    with pytest.raises(DatasetError, match=r"train\.parquet: missing"):
        dataset.samples("train")


def test_an_unknown_split_is_refused(root: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'validation'"):
        Dataset.load(root).samples("validation")  # type: ignore[arg-type]


def test_a_wrong_field_is_named(root: Path) -> None:
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text.replace('"rows": 5', '"rows": -5'))
    with pytest.raises(DatasetError, match=r"dataset\.json: counts\.rows"):
        Dataset.load(root)
    (root / "dataset.json").write_text("not json")
    with pytest.raises(DatasetError, match=r"dataset\.json: Invalid JSON"):
        Dataset.load(root)


def test_an_unlisted_file_is_refused(root: Path) -> None:
    document = info().model_dump_json()
    (root / "dataset.json").write_text(document)
    with pytest.raises(DatasetError, match=r"pages\.json: dataset\.json does not list it"):
        Dataset.load(root)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such directory"):
        Dataset.load(tmp_path / "nowhere")


def test_pages_of_another_shape_are_refused(tmp_path: Path) -> None:
    page = {"page": ["/a", "/a"], "kind": ["page", "page"], "views": [1, 1], "users": [1, 1]}
    with DatasetWriter(tmp_path) as writer:
        writer.finish(pl.DataFrame(page), PageRules(), info())
    dataset = Dataset.load(tmp_path)
    with pytest.raises(DatasetError, match="twice in the vocabulary"):
        dataset.vocabulary()
    pl.DataFrame({"page": ["/a"]}).write_parquet(tmp_path / "pages.parquet")
    with pytest.raises(DatasetError, match="its columns are not"):
        Dataset(tmp_path, dataset.rules, dataset.info).vocabulary()


def returning(root: Path) -> pl.DataFrame:
    """A dataset with two users about whom it is known whether they came back."""
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    users = pl.DataFrame(
        {
            "split": ["train", "test"],
            "as_of": [moment] * 2,
            "started_at": [[datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)], [moment]],
            "pages": [[3, 1], [2]],
            "outcomes": [[["cart", "purchase"], []], [[]]],
            "returned": [True, False],
            "sessions": [None, [["/", "/a"]]],
            "first_outcomes": [["cart"], []],
            "any_outcomes": [["cart", "purchase"], []],
        },
        schema_overrides={"first_outcomes": pl.List(pl.String), "any_outcomes": pl.List(pl.String)},
    )
    pages = pl.DataFrame({"page": ["/"], "kind": ["page"], "views": [9], "users": [7]})
    with DatasetWriter(root, returns=True) as writer:
        writer.add("train", [SAMPLE])
        writer.add_returns(users[:1])
        writer.add_returns(users[:0])
        writer.add_returns(users[1:])
        assert (writer.visitors, writer.returned) == (2, 1)
        writer.finish(pages, PageRules(), info())
    return users


def test_who_came_back_is_read_by_split(tmp_path: Path) -> None:
    users = returning(tmp_path)
    dataset = Dataset.load(tmp_path)
    for splits, expected in ((SPLITS, users), (("test",), users[1:]), (("select",), users[:0])):
        known = dataset.returns(splits)
        assert known is not None
        assert known.rows() == expected.select(VISITS_COLUMNS).rows()
    followed = dataset.followed()
    assert followed is not None
    assert followed.rows() == users[1:].rows(), "of nobody else it is known what they saw"


def test_a_dataset_need_not_know_who_came_back(root: Path) -> None:
    dataset = Dataset.load(root)
    assert dataset.returns(SPLITS) is None
    assert dataset.info.returns is None
    with DatasetWriter(root) as writer, pytest.raises(ValueError, match=r"no returns\.parquet"):
        writer.add_returns(pl.DataFrame())


def test_a_damaged_file_of_who_came_back_is_named(tmp_path: Path) -> None:
    returning(tmp_path)
    dataset = Dataset.load(tmp_path)
    with (tmp_path / RETURNS).open("ab") as file:
        file.write(b" ")
    with pytest.raises(DatasetError, match=r"returns\.parquet: changed"):
        dataset.returns(("train",))
    (tmp_path / RETURNS).unlink()
    with pytest.raises(DatasetError, match=r"returns\.parquet: missing"):
        Dataset.load(tmp_path)
