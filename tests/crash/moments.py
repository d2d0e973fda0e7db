"""Choose the moments to die: points of the daemon's own work, wall-clock moments, moments of the start itself."""

import random

from tests.crash.victim import Plan

# A point that does not come up in so many wall seconds after ready gives way to a kill there and then.
PATIENCE_S = (2.0, 6.0)
# How often each kind of moment is drawn.
_KINDS = (
    ("starting", 8), ("start_commit", 4), ("start_read", 4), ("wall", 8), ("turn", 8), ("commit", 18), ("fill", 12),
    ("derived", 10), ("post", 18), ("delete", 8), ("get", 6),
)  # fmt: skip


def draw(rng: random.Random, start_s: float) -> tuple[Plan, float | None]:
    """Choose a moment to die: (plan, wall seconds or None). ``start_s`` is how long a start takes here."""
    seed = rng.randrange(2**31)
    kind = rng.choices([kind for kind, _ in _KINDS], [weight for _, weight in _KINDS])[0]
    when = rng.choice(("before", "within", "after"))
    around = rng.choice(("before", "during", "after"))
    late_s = rng.uniform(*PATIENCE_S)
    match kind:
        case "starting":
            return Plan("none", armed=True), rng.uniform(0.0, 1.05 * start_s)
        case "start_commit":
            return Plan(f"commit_{when}", rng.randint(1, 4), armed=True), late_s
        case "start_read":
            return Plan(f"get_{around}", rng.randint(1, 12), armed=True, seed=seed), late_s
        case "wall":
            return Plan("none"), rng.expovariate(1 / 0.4)
        case "turn":
            return Plan("turn", rng.randint(1, 2500)), late_s
        case "commit":
            word = rng.choice(("any", "any", "order", "exit", "closed"))
            return Plan(f"commit_{when}", rng.randint(1, 15 if word == "any" else 2), word), late_s
        case "fill":
            return Plan(f"commit_{when}", rng.randint(1, 2), "fill"), late_s
        case "derived":
            return Plan(f"derived_{when}", rng.randint(1, 3)), late_s
        case "post" | "delete":
            return Plan(f"{kind}_{around}", rng.randint(1, 2), seed=seed), late_s
        case _:
            return Plan(f"get_{around}", rng.randint(1, 8), seed=seed), late_s
