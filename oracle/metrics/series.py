"""Every series of the catalogue, made once on a registry of its own.

Inputs: the catalogue, the label values that the composition root knows. Output: children by metric and label values.
Invariant: no series appears later, so that a rate over a rare event begins at its zero; but those marked ``late``,
which are figures and never rates.
"""

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from oracle.metrics.catalogue import CATALOGUE, COUNTER, GAUGE, HISTOGRAM, OTHER, Labels, combinations, label_names

Child = Any  # prometheus-client's children share no base class


class Series:
    """The registry and what is in it."""

    def __init__(self, labels: Labels) -> None:
        # Else each counter brings a second series, which nothing reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        self.children: dict[str, dict[tuple[str, ...], Child]] = {}
        self._late: dict[str, tuple[Child, frozenset[tuple[str, ...]]]] = {}
        for metric in CATALOGUE:
            made = self._make(metric.name, metric.kind, metric.help, label_names(metric), metric.buckets)
            rows = combinations(metric, labels)
            if metric.late:
                self._late[metric.name] = made, frozenset(rows)
                continue
            self.children[metric.name] = {row: made.labels(*row) if row else made for row in rows}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def one(self, name: str) -> Child:
        """The child of a metric without labels."""
        return self.children[name][()]

    def get(self, name: str, *values: str) -> Child:
        """A child by its label values; a value outside its closed set becomes ``other``, or an error where none is."""
        children = self.children[name]
        child = children.get(values)
        if child is not None:
            return child
        for position in range(len(values)):
            changed = (*values[:position], OTHER, *values[position + 1 :])
            if changed in children:
                return children[changed]
        return children[tuple(OTHER for _ in values)]

    def set_late(self, name: str, values: tuple[str, ...], figure: float | None) -> None:
        """Set a series that is absent while its figure is unknown; label values outside the closed set are ignored."""
        made, rows = self._late[name]
        if values not in rows:
            return
        if figure is None:
            made.remove(*values)
        else:
            made.labels(*values).set(figure)

    def inform_late(self, name: str, values: tuple[str, ...], words: dict[str, str]) -> None:
        """Set an info that is absent until it is known."""
        made, rows = self._late[name]
        if values in rows:
            made.labels(*values).info(words)

    def _make(self, name: str, kind: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Child:
        if kind == COUNTER:
            return Counter(name, text, labels, registry=self.registry)
        if kind == GAUGE:
            return Gauge(name, text, labels, registry=self.registry)
        if kind == HISTOGRAM:
            return Histogram(name, text, labels, buckets=buckets, registry=self.registry)
        return Info(name.removesuffix("_info"), text, labels, registry=self.registry)
