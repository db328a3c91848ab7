"""A grid search in which no fit may take longer than three seconds."""

from joblib import parallel_config
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

# Importing the package registers the backend "clutch".
from joblib_clutch.exceptions import TimeLimitError

features, labels = load_breast_cancer(return_X_y=True)

with parallel_config("clutch", n_jobs=-1, task_timeout=3):
    try:
        # On features of very different sizes this solver hardly ever ends.
        GridSearchCV(SVC(kernel="linear"), {"C": [1.0, 1e8]}, cv=3).fit(features, labels)
    except TimeLimitError as error:
        print("without scaling:", error.args[0])

    scaled = make_pipeline(StandardScaler(), SVC(kernel="linear"))
    search = GridSearchCV(scaled, {"svc__C": [0.1, 1.0, 10.0]}, cv=3).fit(features, labels)
    print(f"with scaling: {search.best_params_}, accuracy {search.best_score_:.3f}")
