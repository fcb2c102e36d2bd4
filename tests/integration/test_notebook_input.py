"""What people hand over in a notebook: refused in one line, or right whatever holds it."""

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import hypsae_ray as hr
from hypsae_ray.config import Llm, Replicas, Select, TrainSae
from hypsae_ray.errors import InputError

HERE = Replicas(min=0, max=0)
KEYWORDS = Llm(engine="keywords", replicas=HERE)
QUICK = {"n_bootstrap": 0, "n_permutations": 0}
N = 120
NAMES = [f"r{i}" for i in range(N)]
RNG = np.random.default_rng(0)
LABELS = (RNG.random((N, 3)) < 0.4).astype(float)
TARGET = LABELS[:, 0] + RNG.normal(size=N)
AGE = RNG.normal(size=N)
ORDER = RNG.permutation(N)
PLAIN = {"annotations": LABELS, "target": TARGET, "task": "regression"}
SOUP = [f"the soup {i} was hot" for i in range(40)] + [f"a dog ran {i}" for i in range(40)]
FIRED = np.array([[1.0, 0]] * 40 + [[0, 2.0]] * 40)


def evaluate(**change: Any) -> hr.Evaluation:
    given = {**PLAIN, **change}
    return hr.evaluate_hypotheses(given.pop("annotations"), given.pop("target"), **given, **QUICK)


def named(values: Any) -> Any:
    return pd.DataFrame(values, index=NAMES) if np.ndim(values) == 2 else pd.Series(values, index=NAMES)


def same(**change: Any) -> None:
    expected = evaluate(**{name: one for name, one in change.items() if name == "task"})
    pd.testing.assert_frame_equal(evaluate(**change).table, expected.table, rtol=1e-10)


def refusal(call: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(InputError) as told:
        call(*given, **more)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    "values", ["hello world", pd.DataFrame({"text": ["a"]}), {"text": ["a"]}, {"a"}, b"a", 5]
)
def test_texts_that_are_no_list_are_refused_everywhere(values: Any):
    for call in (
        lambda: hr.embed(values),
        lambda: hr.annotate(values, ["rude"], KEYWORDS),
        lambda: hr.interpret_neurons(values, FIRED, [0], KEYWORDS),
        lambda: hr.generate_hypotheses(values, [0, 1], FIRED, KEYWORDS),
    ):
        assert refusal(call).startswith("texts: expected a list, a Series or a 1-D array of texts, not ")


@pytest.mark.parametrize("value", [None, np.nan, "\u200b", 5, "\ud800"])
def test_a_text_that_is_none_is_refused_where_it_would_count(value: Any):
    texts = pd.Series([*SOUP[:79], value], index=[f"t{i}" for i in range(80)], dtype=object)
    for call in (
        lambda: hr.embed(texts),
        lambda: hr.interpret_neurons(texts, FIRED, [0], KEYWORDS),
        lambda: hr.generate_hypotheses(texts, FIRED[:, 0], FIRED, KEYWORDS),
    ):
        assert "texts: 1 of 80 values cannot be used, the first at position 79 (index 't79'): " in refusal(
            call
        )


def test_a_text_that_is_none_has_no_label_and_a_warning():
    texts = pd.Series(["a rude cook", None, " ", 5, "a cook"], index=list("abcde"), dtype=object)
    with pytest.warns(
        UserWarning, match=r"texts: 3 of 5 values .* position 1 \(index 'b'\): None is missing"
    ):
        found = hr.annotate(texts, ['mentions "rude"'], KEYWORDS)
    assert found[0].fillna(-1).to_dict() == {"a": 1, "b": -1, "c": -1, "d": -1, "e": 0}
    assert "texts: 2 of 2 values" in refusal(hr.annotate, [None, " "], ["rude"], KEYWORDS)


def test_labels_carry_the_indexes_of_texts_and_of_hypotheses():
    texts = pd.Series(["a rude cook", "a kind cook"], index=[7, 3])
    table = pd.DataFrame({"hypothesis": ['mentions "rude"', 'mentions "kind"']}, index=["x", "y"])
    found = hr.annotate(texts, table, KEYWORDS)
    assert found.to_dict() == {"x": {7: 1, 3: 0}, "y": {7: 0, 3: 1}}
    plain = hr.annotate(iter(texts), iter(table["hypothesis"]), KEYWORDS)
    assert plain.to_dict() == {0: {0: 1, 1: 0}, 1: {0: 0, 1: 1}}


@pytest.mark.parametrize(
    ("hypotheses", "told"),
    [
        ("one sentence", "hypotheses: expected a list of sentences, or a table with a column"),
        ({"hypothesis": ["rude"]}, "hypotheses: expected a list of sentences, or a table with a column"),
        ([["rude"]], "hypotheses: position 0: ['rude'] is not a text"),
        (pd.DataFrame({"x": ["rude"]}), "hypotheses: no column 'interpretation' or 'hypothesis'; it has x"),
    ],
)
def test_hypotheses_that_are_no_list_are_refused(hypotheses: Any, told: str):
    assert refusal(hr.annotate, ["a cook"], hypotheses, KEYWORDS).startswith(told)
    assert refusal(evaluate, hypotheses=hypotheses).startswith(told)


def test_options_of_another_kind_are_refused():
    assert refusal(hr.annotate, ["a"], ["b"], "gpt") == "llm: expected a hypsae_ray.config.Llm, not 'gpt'"
    assert refusal(hr.embed, ["a"], "minilm").startswith("options: expected a hypsae_ray.config.Embed")


def test_rows_are_matched_by_their_index():
    order, other = NAMES[::-1], [NAMES[i] for i in ORDER]
    same(annotations=named(LABELS), target=named(TARGET).loc[order])
    groups, weights = [i % 20 for i in range(N)], np.linspace(1, 2, N)
    beside = {"groups": groups, "covariates": pd.DataFrame({"age": AGE}), "weights": weights}
    expected = evaluate(**beside)
    found = evaluate(
        annotations=named(LABELS),
        target=named(TARGET).loc[order],
        groups=named(groups).loc[other],
        covariates=pd.DataFrame({"age": AGE}, index=NAMES).loc[other],
        weights=weights,
    )
    pd.testing.assert_frame_equal(found.table, expected.table, rtol=1e-10)
    pd.testing.assert_frame_equal(found.details["covariates"], expected.details["covariates"], rtol=1e-10)
    same(annotations=named(LABELS), target=TARGET.tolist())
    same(target=named(TARGET).loc[order].loc[NAMES])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"annotations": named(LABELS), "target": pd.Series(TARGET)}, "annotations alone has a row 'r0'"),
        (
            {"annotations": pd.DataFrame(LABELS), "target": pd.Series(TARGET).iloc[ORDER]},
            "annotations has only 0 to 119, and the other has these in another order",
        ),
        (
            {"annotations": named(LABELS), "target": named(TARGET).rename({"r5": "r6"})},
            "annotations alone has a row 'r5'",
        ),
        (
            {"target": named(TARGET), "weights": named(np.ones(N)).iloc[ORDER]},
            "weights: its index is not that of target, and annotations have none",
        ),
        (
            {"annotations": named(LABELS), "target": named(TARGET)[:100]},
            "target: 100 rows, but annotations has 120",
        ),
        ({"groups": [1, 2]}, "groups: 2 rows, but annotations has 120"),
        ({"hypotheses": ["one", "two"]}, "hypotheses: 2 sentences, but annotations has 3 columns"),
    ],
)
def test_rows_that_do_not_match_are_refused(change: dict, told: str):
    assert told in refusal(evaluate, **change)


def test_texts_and_target_are_matched_by_their_index():
    names = [f"t{i}" for i in range(80)]
    texts, target = pd.Series(SOUP, index=names), pd.Series(FIRED[:, 0], index=names)
    shuffled = target.sample(frac=1, random_state=0)
    each = Select(method="correlation")
    found = hr.generate_hypotheses(texts, shuffled, sp.csr_matrix(FIRED), KEYWORDS, each)
    expected = hr.generate_hypotheses(SOUP, FIRED[:, 0], pd.DataFrame(FIRED), KEYWORDS, each)
    pd.testing.assert_frame_equal(found, expected)
    assert found["target_correlation"].abs().tolist() == pytest.approx([1, 1])


def test_what_is_known_is_held_fixed_and_matched_by_its_index():
    names = [f"t{i}" for i in range(80)]
    texts, known = pd.Series(SOUP, index=names), np.tile([0.0, 1], 40)
    fired = np.column_stack([FIRED[:, 0], known * (np.arange(80) % 3 > 0)])
    target = 0.5 * fired[:, 0] + 2 * known + np.random.default_rng(0).normal(size=80) / 9
    frame = pd.DataFrame({"new": np.where(known, "yes, new", "no")}, index=names)
    given: dict[str, Any] = {"select": Select(n=1), "llm": KEYWORDS}
    alone = hr.generate_hypotheses(texts, target, fired, **given)
    assert alone["neuron_idx"].tolist() == [1]
    for held in (
        {"covariates": frame.sample(frac=1, random_state=0)},
        {"fixed_effects": frame["new"].sample(frac=1, random_state=1), "weights": np.ones(80)},
    ):
        found = hr.generate_hypotheses(texts, target, fired, **given, **held)
        assert found["neuron_idx"].tolist() == [0]
    ignored = hr.generate_hypotheses(
        texts, target, fired, KEYWORDS, Select(n=1, given="none"), covariates=frame
    )
    assert ignored["neuron_idx"].tolist() == [1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"covariates": pd.DataFrame({"age": [1.0]})}, "covariates: 1 rows, but texts has 80"),
        ({"weights": np.zeros(80)}, "weights: 80 of 80 values cannot be used"),
        (
            {"select": Select(method="correlation", interactions=True)},
            "select: interactions needs covariates",
        ),
        ({"target": [None, *FIRED[1:, 0]]}, "target: 1 of 80 values cannot be used, the first at position 0"),
        (
            {"target": ["good"] * 80},
            "target: 80 of 80 values cannot be used, the first at position 0: 'good' is",
        ),
        ({"target": np.ones(80)}, "target: it is 1 on every row: nothing to predict"),
        ({"target": [1, 0]}, "target: 2 rows, but texts has 80"),
        ({"activations": FIRED[:79]}, "activations: 79 rows, but texts has 80"),
        (
            {"activations": -FIRED},
            "activations: 80 of 80 rows cannot be used, the first at position 0: it holds NaN",
        ),
    ],
)
def test_what_does_not_fit_the_texts_is_refused(change: dict, told: str):
    given = {"texts": SOUP, "target": FIRED[:, 0], "activations": FIRED, **change}
    assert refusal(hr.generate_hypotheses, **given, llm=KEYWORDS).startswith(told)


@pytest.mark.parametrize("neurons", [[0, 2], [-1], [0.5], 1, ["first"]])
def test_neurons_that_are_none_are_refused(neurons: Any):
    assert refusal(hr.interpret_neurons, SOUP, FIRED, neurons, KEYWORDS).startswith("neurons: ")


@pytest.mark.parametrize(
    "age",
    [
        AGE.astype(object),
        [Decimal(repr(float(one))) for one in AGE],
        AGE.astype(str),
        pd.array(AGE, "Float64"),
    ],
)
def test_covariates_are_numbers_whatever_the_dtype(age: Any):
    expected = evaluate(covariates=pd.DataFrame({"age": AGE})).details["covariates"]
    found = evaluate(covariates=pd.DataFrame({"age": age})).details["covariates"]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-10)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS > 0,
        LABELS.tolist(),
        pd.DataFrame(LABELS).astype("Int8"),
        pd.DataFrame(LABELS > 0).astype("boolean"),
        pd.DataFrame(np.where(LABELS > 0, "yes", "no")),
        pd.DataFrame(LABELS.astype(int)).astype("category"),
        sp.csr_matrix(LABELS),
    ],
)
def test_labels_count_by_value_whatever_holds_them(labels: Any):
    same(annotations=labels)


@pytest.mark.parametrize("nothing", [pd.NA, None, np.nan, ""])
def test_a_missing_label_is_no_label(nothing: Any):
    labels = pd.DataFrame(LABELS, dtype="Int8" if nothing is pd.NA else object)
    labels.iloc[3, 1] = nothing
    found = evaluate(annotations=labels)
    assert found.table["n"].tolist() == [N, N - 1, N]
    masked = np.ma.masked_array(LABELS, mask=np.zeros_like(LABELS, dtype=bool))
    masked[3, 1] = np.ma.masked
    same_without = evaluate(annotations=masked).table
    pd.testing.assert_frame_equal(found.table, same_without)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (LABELS * 1.5, "position 0: 1.5, but labels must be within 0 and 1, or NaN"),
        (LABELS - 1, "position 0: -1, but labels must be within 0 and 1, or NaN"),
        (
            np.where(LABELS > 0, "yes", "maybe"),
            "'maybe' is not a number; expected a number, or NaN for none",
        ),
        (
            LABELS[:, 0],
            "annotations: expected a table (n, H) of labels or a folder, not values of shape (120,)",
        ),
        (pd.Series(LABELS[:, 0]), "not a Series: give series.to_frame()"),
        ([[1], [1, 0]], "not rows that differ in length"),
    ],
)
def test_labels_that_are_none_are_refused(labels: Any, told: str):
    told_of = refusal(evaluate, annotations=labels)
    assert told_of.startswith("annotations")
    assert told in told_of


def test_names_of_columns_are_hypotheses():
    table = pd.DataFrame(LABELS, columns=["rude", "kind", "rude"])
    assert evaluate(annotations=table).table["hypothesis"].tolist() == ["rude", "kind", "rude"]
    assert "hypothesis" not in evaluate(annotations=pd.DataFrame(LABELS)).table
    numbers = pd.DataFrame(LABELS, columns=[4, 9, 12])
    assert evaluate(annotations=numbers).table["hypothesis"].tolist() == ["4", "9", "12"]


def test_hypotheses_stand_beside_the_columns_that_are_named_by_them():
    labels = pd.DataFrame(LABELS, columns=["rude", "kind", "long"])
    found = evaluate(annotations=labels, hypotheses=["kind", "long", "rude"]).table
    assert found["hypothesis"].tolist() == ["rude", "kind", "long"]
    assert evaluate(annotations=labels, hypotheses=["a", "b", "c"]).table["hypothesis"].tolist() == [
        "a",
        "b",
        "c",
    ]
    told = refusal(evaluate, annotations=labels, hypotheses=["kind", "new", "long"])
    assert told.startswith(
        "hypotheses: 'kind' stands at position 0, but is the name of column 1 of annotations"
    )
    table = pd.DataFrame({"hypothesis": ["a", "b", "c"]}, index=[3, 5, 7])
    by_index = pd.DataFrame(LABELS, columns=[7, 3, 5])
    assert evaluate(annotations=by_index, hypotheses=table).table["hypothesis"].tolist() == ["c", "a", "b"]
    told = refusal(evaluate, annotations=pd.DataFrame(LABELS), hypotheses=table.reset_index().iloc[[2, 0, 1]])
    assert "the columns of annotations has only 0 to 2" in told


def test_thresholds_follow_their_hypotheses_to_the_columns():
    shares = np.linspace(0, 1, N)[:, None].repeat(3, axis=1)
    labels = pd.DataFrame(shares, columns=["rude", "kind", "long"])
    table = pd.DataFrame({"hypothesis": ["kind", "long", "rude"], "threshold": [0.25, 0.75, None]})
    found = evaluate(annotations=labels, hypotheses=table).table
    expected = [(shares[:, 0] >= cut).mean() for cut in (0.5, 0.25, 0.75)]
    np.testing.assert_allclose(found["feature_prevalence"], expected)
    found = evaluate(annotations=labels, hypotheses=table, threshold=[0.1, 0.5, 0.9]).table
    np.testing.assert_allclose(
        found["feature_prevalence"], [(shares[:, 0] >= cut).mean() for cut in (0.1, 0.5, 0.9)]
    )
    assert "counts as yes" in evaluate(annotations=labels).notes[-1]
    assert not any("counts as yes" in note for note in evaluate(annotations=LABELS).notes)


@pytest.mark.parametrize(
    ("threshold", "told"),
    [
        (1.5, "threshold: 3 of 3 values cannot be used, the first at position 0: 1.5 does not fit"),
        ([0.5, 0.5], "threshold: 2 numbers, but annotations has 3 columns"),
        ("auto", "threshold"),
    ],
)
def test_thresholds_that_are_none_are_refused(threshold: Any, told: str):
    assert refusal(evaluate, threshold=threshold).startswith(told)


def test_groups_and_levels_that_are_missing_are_told():
    author = [None if i % 10 == 0 else f"{i % 30}" for i in range(N)]
    assert (
        "groups: 12 of 120 rows have none, and count as groups of their own" in evaluate(groups=author).notes
    )
    assert (
        "groups: each row is a group of its own, so that nothing belongs together"
        in evaluate(groups=NAMES).notes
    )
    shops = pd.DataFrame({"shop": [None if i % 40 == 0 else i % 4 for i in range(N)]})
    told = "fixed_effects, column 'shop': 3 rows have no level, and count as levels of their own"
    assert told in evaluate(fixed_effects=shops).notes
    ids = [[5, 5.0, "5"][i % 3] if i % 2 else "6" for i in range(N)]
    assert evaluate(groups=ids).metrics["n_groups"] == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"weights": named(np.r_[1, -1, np.ones(118)])},
            "weights: 1 of 120 values cannot be used, the first at position 1",
        ),
        (
            {"weights": [1, None, *np.ones(118)]},
            "position 1: None is missing; expected on each row: a number above 0",
        ),
        (
            {"target": np.r_[TARGET[:9], np.inf, TARGET[10:]]},
            "target: 1 of 120 values cannot be used, the first at position 9",
        ),
        (
            {"target": TARGET[:, None]},
            "target: expected a list, a Series or a 1-D array, not an array of shape",
        ),
        (
            {"groups": [[1]] * N},
            "groups: 120 of 120 values cannot be used, the first at position 0: [1] is not one name",
        ),
        (
            {"covariates": pd.Series(AGE)},
            "covariates: expected a DataFrame, not a Series: give series.to_frame()",
        ),
        (
            {"activations": sp.csc_matrix((N, 2))},
            "activations: the shape is (120, 2), but must be (120, 3)",
        ),
        (
            {"features": {"embedding": np.ones((121, 2))}},
            "features, 'embedding': 121 rows",
        ),
    ],
)
def test_what_does_not_fit_the_labels_is_refused(change: dict, told: str):
    assert told in refusal(evaluate, **change)


def test_codes_of_the_chosen_text_are_refused_and_differences_are_told():
    labels = RNG.choice([-1.0, 0, 1], (N, 2))
    chosen = (RNG.random(N) < 0.5).astype(int)
    pairs = {"annotations": labels, "task": "pairwise"}
    assert "its values are 1 and 2, a code and no difference" in refusal(evaluate, **pairs, target=chosen + 1)
    notes = evaluate(**pairs, target=2 * chosen - 1).notes
    assert any(note.startswith("the target of pairs is -1 and 1: taken as a difference") for note in notes)
    told = refusal(evaluate, **{**pairs, "annotations": labels / 2}, target=chosen)
    assert "but labels must be -1, 0, 1 or NaN" in told


def test_a_missing_class_is_refused():
    kinds = [None if i == 7 else ["praise", "complaint"][i % 2] for i in range(N)]
    told = "target: 1 of 120 values cannot be used, the first at position 7: None is missing"
    assert refusal(evaluate, target=kinds, task="multiclass").startswith(told)


def test_embeddings_come_in_any_table():
    vectors = RNG.normal(size=(40, 8)).astype(np.float32)
    options = TrainSae(n_neurons=16, k=2, prefix_lengths=(16,), max_epochs=2, batch_size=16)
    sae = hr.train_sae(pd.DataFrame(vectors), options=options)
    expected = hr.activations(hr.train_sae(vectors, options=options), vectors)
    found = hr.activations(sae, vectors.tolist())
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-6)
    bad = vectors.copy()
    bad[[3, 9], 2] = np.nan, np.inf
    told = "embeddings: 2 of 40 rows cannot be used, the first at position 3: it holds NaN or infinite values"
    assert refusal(hr.train_sae, bad, options=options) == refusal(hr.activations, sae, bad) == told
    assert refusal(hr.train_sae, vectors[0]).endswith("not values of shape (8,)")
    assert refusal(hr.train_sae, vectors, vectors[:, :4]).startswith("val_embeddings: 4 columns")
