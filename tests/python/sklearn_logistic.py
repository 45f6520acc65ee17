"""scikit-learn's answers for tests/head.rs: reads a JSON file, prints JSON.

fit: the optimum of mean cross-entropy + l2/2 * sum(w**2), by LogisticRegression with C = 1 / (l2 * n).
metrics: what sklearn.metrics says of labels, predictions and probabilities.
"""

import json
import sys

import numpy as np
from sklearn import metrics
from sklearn.linear_model import LogisticRegression


def fit(task):
    features = np.array(task["features"], np.float64)
    labels = np.array(task["labels"])
    mean, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
    if task["standardize"]:
        mean, scale = features.mean(axis=0), features.std(axis=0)
    model = LogisticRegression(
        C=1.0 / (task["l2"] * len(labels)),
        class_weight="balanced" if task["balanced"] else None,
        tol=1e-10,
        max_iter=100_000,
    )
    model.fit((features - mean) / scale, labels)
    weights = model.coef_.T / scale[:, None]
    return {
        "weights": weights.tolist(),
        "bias": (model.intercept_ - mean @ weights).tolist(),
        "probabilities": model.predict_proba((features - mean) / scale).tolist(),
    }


def measure(task):
    labels, predictions = task["labels"], task["predictions"]
    probabilities = np.array(task["probabilities"], np.float32)

    def scores(average):
        return metrics.precision_recall_fscore_support(
            labels, predictions, average=average, zero_division=0
        )

    return {
        "confusion": metrics.confusion_matrix(labels, predictions).tolist(),
        "accuracy": metrics.accuracy_score(labels, predictions),
        "classes": [
            (float(p), float(r), float(f), int(n)) for p, r, f, n in zip(*scores(None))
        ],
        "macro_average": scores("macro")[:3],
        "weighted_average": scores("weighted")[:3],
        "top_2": metrics.top_k_accuracy_score(labels, probabilities, k=2),
        "log_loss": float(metrics.log_loss(labels, probabilities)),
    }


with open(sys.argv[1]) as file:
    task = json.load(file)
answer = {"fit": fit, "metrics": measure}[task["task"]](task)
json.dump(answer, sys.stdout, default=float)
