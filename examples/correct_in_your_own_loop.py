"""OTC in a training loop of your own: 30 lines of NumPy Q-learning around `marline.correct`.

One agent chooses between two actions; the reward depends on a partner's choice as well. While
the logs were made the partner chose 1 in one case of ten, now it does in nine of ten: what pays has
changed, and 100 fresh rows among 10,000 old ones cannot say so by their number.
"""

import numpy as np

import marline

REWARD = np.array([[2.0, 0.0], [1.0, 3.0]])  # [own action, partner's action]


def play(rng, num_rows, partner):
    own = rng.integers(0, 2, num_rows)
    return own, (rng.random(num_rows) < partner).astype(int)


def learn(correcting: bool, *, seed: int = 0, updates: int = 2000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    old, new = play(rng, 10_000, partner=0.1), play(rng, 100, partner=0.9)
    own, outcome = np.concatenate([old[0], new[0]]), np.concatenate([old[1], new[1]])
    q = np.zeros(2)
    for update in range(updates):
        rows = rng.integers(0, len(own), 512)
        if correcting:  # match on the own action, compare what came of it
            rows = rows[marline.correct(own[rows], outcome[rows], *new, alpha=1.0, num=128, seed=update).indices]
        for action in (0, 1):
            chosen = rows[own[rows] == action]
            if len(chosen):
                q[action] += 0.02 * (REWARD[action, outcome[chosen]].mean() - q[action])
    return q


if __name__ == "__main__":
    print("all rows alike:  Q =", learn(False).round(2), "-> action", learn(False).argmax())
    print("with correction: Q =", learn(True).round(2), "-> action", learn(True).argmax())
    print("true values now: Q =", (REWARD @ [0.1, 0.9]).round(2), "-> action 1")
