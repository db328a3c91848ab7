"""scikit-learn on Clutch gives what it gives on loky."""

import os

import joblib
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor, StackingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import joblib_clutch

IRIS, SPECIES = load_iris(return_X_y=True)


def grid_search():
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.01, 0.1]}, cv=3)
    search.fit(IRIS, SPECIES)
    return search.cv_results_["mean_test_score"], search.best_params_, search.predict(IRIS)


def random_forest():
    forest = RandomForestClassifier(20, random_state=0).fit(IRIS, SPECIES)
    return forest.predict_proba(IRIS), forest.feature_importances_


def random_forest_regression():
    features, target = load_diabetes(return_X_y=True)
    forest = RandomForestRegressor(10, random_state=0, oob_score=False).fit(features, target)
    return forest.predict(features)


def cross_validation():
    return cross_val_score(LogisticRegression(max_iter=500), IRIS, SPECIES, cv=5)


def importance():
    model = Ridge().fit(IRIS, SPECIES)
    found = permutation_importance(model, IRIS, SPECIES, n_repeats=4, random_state=0)
    return found.importances


def column_transformer():
    columns = ColumnTransformer(
        [("scaled", StandardScaler(), [0, 1]), ("squeezed", MinMaxScaler(), [2, 3])]
    )
    return columns.fit_transform(IRIS)


def feature_union():
    union = FeatureUnion([("pca", PCA(2, random_state=0)), ("best", SelectKBest(k=1))])
    return union.fit_transform(IRIS, SPECIES)


def multi_output():
    targets = np.column_stack([SPECIES, SPECIES == 1])
    model = MultiOutputClassifier(DecisionTreeClassifier(random_state=0)).fit(IRIS, targets)
    return model.predict(IRIS)


def stacking():
    members = [("tree", DecisionTreeClassifier(random_state=0)), ("bayes", GaussianNB())]
    return StackingClassifier(members, cv=3).fit(IRIS, SPECIES).predict_proba(IRIS)


WORK = [
    grid_search,
    random_forest,
    random_forest_regression,
    cross_validation,
    importance,
    column_transformer,
    feature_union,
    multi_output,
    stacking,
]


def run(work, backend):
    with joblib.parallel_config(backend=backend, n_jobs=2):
        return work()


def assert_equal(ours, theirs):
    if not isinstance(ours, tuple):
        ours, theirs = (ours,), (theirs,)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        if isinstance(our, dict):
            assert our == their
        else:
            np.testing.assert_array_equal(our, their)


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_results_equal_those_of_loky_for(work):
    before = joblib_clutch.last_report()
    ours = run(work, "clutch")
    report = joblib_clutch.last_report()
    assert report is not before, "nothing ran on the agent"
    assert report.summary()["tasks"] > 1
    assert os.getpid() not in {row.pid for row in report.rows}
    assert_equal(ours, run(work, "loky"))


def test_an_estimator_that_fails_fails_as_with_loky():
    def fails():
        return cross_val_score(
            SVC(C=-1.0), IRIS, SPECIES, cv=3, error_score="raise", scoring="accuracy"
        )

    messages = []
    for backend in ("clutch", "loky"):
        with pytest.raises(ValueError, match="C") as caught:
            run(fails, backend)
        messages.append((type(caught.value), str(caught.value)))
    assert messages[0] == messages[1]
