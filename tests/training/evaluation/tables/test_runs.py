"""Documents, grouped by log and method and over seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.evaluation.documents import evaluation, generation, row
from training.evaluation.result import Evaluation
from training.evaluation.tables.runs import Log, Run, RunError, blocks, logs, read


def run(document: Evaluation, path: str = "run.json") -> Run:
    return Run(Path(path), document)


def one(*documents: Evaluation, folds_of: str | None = None) -> Log:
    (log,) = logs([run(document, f"{place}.json") for place, document in enumerate(documents)], folds_of)
    return log


def test_by_dataset_and_method_in_the_order_of_the_documents() -> None:
    found = logs(
        [run(evaluation(method, dataset=dataset)) for dataset in ("shop", "news") for method in ("single", "hetlm")]
    )
    assert [log.name for log in found] == ["shop", "news"]
    assert [group.label for group in found[0].groups] == ["single", "hetlm"]


def test_seeds_are_one_line() -> None:
    seeds = [evaluation(combined=row(generation({"iou": 0.1 * (1 + seed)})), seed=seed) for seed in range(3)]
    (group,) = one(*seeds).groups
    assert (group.label, len(group.runs)) == ("hetlm", 3)
    (block,) = blocks(one(*seeds), None, clusters=True)
    (source,) = block.sources
    assert source.value("pages.iou") == pytest.approx(0.2)
    assert source.ranked


def test_methods_of_other_settings_are_called_by_what_tells_them_apart() -> None:
    settings: list[dict[str, object]] = [
        {"method": "hetlm", "seed": seed, "alpha": alpha, "clusters": clusters, "batch_size": 8 * clusters}
        for seed, alpha, clusters in ((0, 5.0, 6), (0, 2.0, 6), (1, 5.0, 6), (0, 5.0, 2))
    ]
    log = one(*(evaluation(training=own, seed=int(str(own["seed"]))) for own in settings))
    assert [(group.label, len(group.runs)) for group in log.groups] == [
        ("hetlm (clusters=6, alpha=5.0)", 2),
        ("hetlm (clusters=6, alpha=2.0)", 1),
        ("hetlm (clusters=2, alpha=5.0)", 1),
    ]
    other = one(*(evaluation(training={"batch_size": size}) for size in (8, 16)))
    assert [group.label for group in other.groups] == ["hetlm (batch_size=8)", "hetlm (batch_size=16)"]


def test_folds_are_one_log() -> None:
    folds = [evaluation(dataset=f"fold-{fold}", users=users) for fold, users in enumerate((1200, 1190))]
    assert len(logs([run(fold) for fold in folds])) == 2
    log = one(*folds, folds_of="Taobao")
    assert (log.name, len(log.groups[0].runs)) == ("Taobao", 2)


def test_datasets_called_alike_are_told_apart() -> None:
    first = evaluation(dataset="data")
    second = first.model_copy(update={"dataset_sha256": "f" * 64})
    assert [log.name for log in logs([run(first), run(second)])] == ["data 64617461", "data ffffffff"]
    assert one(first.model_copy(update={"dataset": ""})).name == "dataset 64617461"


def test_what_cannot_be_one_table() -> None:
    with pytest.raises(RunError, match=r"0.json and 1.json are both hetlm with seed 0 on the same dataset"):
        one(evaluation(), evaluation())
    with pytest.raises(RunError, match=r"another number of users \(500, 1200\)"):
        one(evaluation(), evaluation("single", users=500))
    smaller = evaluation("single").model_copy(update={"vocabulary_sha256": "f" * 64})
    with pytest.raises(RunError, match=r"another vocabulary \(, ffffffffffff\)"):
        one(smaller, evaluation())
    with pytest.raises(RunError, match=r"another split \(select, test\)"):
        one(evaluation(), evaluation("single", split="select"))


def test_clusters_have_lines_where_there_are_several_and_one_seed() -> None:
    clusters = tuple(row(cluster=k, name=f"kind {k}") for k in range(2))
    log = one(evaluation("single", clusters=clusters[:1]), evaluation("markov"), evaluation(clusters=clusters))
    first, second = blocks(log, None, clusters=True)
    assert [source.label for source in first.sources] == ["single", "markov"]
    assert second.heading == "hetlm"
    assert [(s.label, s.strong, s.ranked) for s in second.sources] == [
        ("0 kind 0", False, False),
        ("1 kind 1", False, False),
        ("Combined", True, True),
    ]
    (flat,) = blocks(log, None, clusters=False)
    assert [source.label for source in flat.sources] == ["single", "markov", "hetlm"]
    seeds = one(*(evaluation(clusters=clusters, seed=seed) for seed in range(2)))
    assert [len(block.sources) for block in blocks(seeds, None, clusters=True)] == [1]


def test_a_decode_is_seen_through() -> None:
    both = row(generation({"iou": 0.3}), others={"greedy": generation({"iou": 0.1})})
    (block,) = blocks(one(evaluation(combined=both)), "greedy", clusters=True)
    assert block.sources[0].value("pages.iou") == 0.1


def test_the_reference_is_the_single_model() -> None:
    log = one(evaluation("shared"), evaluation("single"), evaluation("hetlm"))
    assert [getattr(log.reference(name), "label", None) for name in (None, "hetlm", "kmeans")] == [
        "single",
        "hetlm",
        None,
    ]
    assert one(evaluation("hetlm")).reference(None) is None
    shared = one(evaluation("hetlm"), evaluation("shared")).reference(None)
    assert shared is not None
    assert shared.label == "shared"


def test_decodes_name_whose_they_are() -> None:
    log = one(evaluation("single"), evaluation("hetlm", decode="greedy"), evaluation("popularity", decode="own"))
    assert log.decodes() == {"consensus": ["single"], "greedy": ["hetlm"], "own": ["popularity"]}


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(evaluation().model_dump_json())
    assert read(path) == evaluation()
    with pytest.raises(RunError, match=r"missing.json"):
        read(tmp_path / "missing.json")
    path.write_text("{")
    with pytest.raises(RunError, match=r"run.json: Expecting"):
        read(path)
    path.write_text('{"schema_version": 1}')
    with pytest.raises(RunError, match=r"is no result of this version's `hetlm evaluate`: .*: run it again"):
        read(path)
    path.write_text('{"kind": "timing"}')
    with pytest.raises(RunError, match="`hetlm timing`"):
        read(path)
    path.write_text("[]")
    with pytest.raises(RunError, match="the document: Input should be"):
        read(path)
