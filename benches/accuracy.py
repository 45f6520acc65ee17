"""scikit-learn's logistic regression (C = 0.1) on the folds that examples/shuffles.rs writes to standard input.

Uses the features as they are; with --standardize each fold's training rows are standardised
first. Prints a line per shuffle, then the means.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def classifier(standardize):
    model = LogisticRegression(C=0.1, max_iter=5000)
    return make_pipeline(StandardScaler(), model) if standardize else model


def accuracy(features, labels, fold_of, standardize):
    right = 0
    for fold in np.unique(fold_of):
        held_out = fold_of == fold
        model = classifier(standardize).fit(features[~held_out], labels[~held_out])
        right += np.sum(model.predict(features[held_out]) == labels[held_out])
    return right / len(labels)


store = Path(sys.argv[1])
features = np.load(store / "features.npy", mmap_mode="r").astype(np.float32)
features = features.reshape(len(features), -1)
with open(store / "index.csv", newline="") as file:
    labels = np.array([row["class"] for row in csv.DictReader(file)])

rows = []
print("shuffle     tl   scikit-learn   scikit-learn, standardised")
for line in sys.stdin:
    shuffle = json.loads(line)
    fold_of = np.array(shuffle["fold_of"])
    row = [shuffle["accuracy"]] + [accuracy(features, labels, fold_of, s) for s in (False, True)]
    rows.append(row)
    print(f"{shuffle['seed']:>7} {row[0]:.4f}         {row[1]:.4f}                       {row[2]:.4f}")
mean = np.mean(rows, axis=0)
print(f"   mean {mean[0]:.4f}         {mean[1]:.4f}                       {mean[2]:.4f}")
print(f"tl is {100 * (mean[0] - mean[1]):+.2f} points from scikit-learn")
