"""What people want to know of the tasks that come with marline, beyond what they say themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

from marline.envs.continuous_swap import ContinuousSwap
from marline.envs.cooperative_navigation import CooperativeNavigation
from marline.envs.drifting_navigation import DriftingNavigation
from marline.envs.matrix_game import MatrixGame
from marline.envs.mujoco import MultiAgentMujoco
from marline.envs.predator_prey import PredatorPrey
from marline.envs.rare_payoff import RarePayoff
from marline.envs.smax import Smax
from marline.envs.starcraft import StarCraft
from marline.envs.swap import Swap
from marline.envs.traffic import Traffic
from marline.envs.two_on_ring import Meet, Pass


class TaskFacts(NamedTuple):
    """What a person wants to know of a task beyond what it says itself.

    Attributes:
        reward: of a step.
        source: where the task comes from.
        ours: what the sources leave open, and is decided here.
        needs: what must be installed beside marline.
    """

    reward: str
    source: str
    ours: str
    needs: str = "nothing more"


FACTS: dict[type[Any], TaskFacts] = {
    CooperativeNavigation: TaskFacts(
        "minus the sum over landmarks of the distance to the nearest agent",
        "Lowe et al. 2017; OTC paper, Figs. 6b, 7, 8",
        "arena [-1, 1]^2, horizon, observations, no collisions; random play returns -112 an episode at N = 4; "
        "the discrete moves",
    ),
    PredatorPrey: TaskFacts(
        "1 if any predator ends a step within 0.1 of the prey (predator-prey-each: 1 for each that does)",
        "Lowe et al. 2017; OTC paper, Fig. 6a",
        "arena, horizon, observations, and the prey's rule: 0.15 straight away from the nearest predator",
    ),
    DriftingNavigation: TaskFacts(
        "10 at the landmark, which ends the episode",
        "OTC paper, 4.5, Fig. 6c",
        "arena, horizon, reach 0.1, one beta for both axes; teams are evaluated in the world of their next deployment",
    ),
    MatrixGame: TaskFacts(
        "where agent_0 chooses 0: 0.3 or 0.5, as agent_1 chooses 0 or 1; where it chooses 1: 0 or 1 likewise",
        "ours, after the matrix games of the literature on coordination",
        "everything; logs of the past team by TASK/conventions",
    ),
    Swap: TaskFacts(
        "1 for a step that ends at place 0, less 1.25 where agent_1 left the step plain",
        "ours",
        "everything; logs of the past team by TASK/conventions",
    ),
    Pass: TaskFacts(
        "1 for each agent that is at its own place, less 2 where both are at one place",
        "ours",
        "everything; logs of past teams of two conventions by TASK/conventions",
    ),
    Meet: TaskFacts(
        "1 for a step that ends with both at one meeting point",
        "ours",
        "everything; logs of past teams, each with a meeting point, by TASK/conventions",
    ),
    ContinuousSwap: TaskFacts(
        "minus the distance to the middle, less 1.5 where agent_1's action is positive",
        "ours",
        "everything; logs of the past team by TASK/conventions",
    ),
    RarePayoff: TaskFacts(
        "0.2 for a step that ends at place 0; 10 in one of 20 that end at the place across the ring",
        "ours",
        "everything; a test that nothing is lost where nothing changes",
    ),
    MultiAgentMujoco: TaskFacts(
        "Gymnasium's: forward speed less the cost of control, and 1 a step for being healthy where a robot can fall",
        "de Witt et al. 2020; Gymnasium; OTC paper, Table 1, Figs. 3-5",
        "actuators in blocks in the order of the model; everyone sees the whole state; v4, the nearest to D4RL's logs, "
        "unless the name says v5",
        "pip install 'marline[mujoco]'",
    ),
    Smax: TaskFacts(
        "share of all enemies' health shot away, and 1 for a victory; at most 2",
        "Rutherford et al. 2024 (JaxMARL); stands in for OTC paper, Fig. 6d, and is not comparable to it",
        "nothing: JaxMARL's rules as they come, with its heuristic enemy",
        "pip install 'marline[smac]'",
    ),
    StarCraft: TaskFacts(
        "damage, 10 a kill and 200 a victory, scaled so that 20 is the most",
        "Samvelyan et al. 2019; OTC paper, Fig. 6d",
        "a failure of the game cuts the episode; battles are not fixed by a seed, for the game takes none between them",
        "StarCraft II 4.10, SMAC_Maps, and pip install git+https://github.com/oxwhirl/smac.git",
    ),
    Traffic: TaskFacts(
        "of each signal: minus the seconds waited so far by all vehicles in its lanes / 224, -4 at worst (wait_norm)",
        "RESCO: Ault & Sharon 2021, networks and demand of TAPASCologne and InTAS",
        "5 s a step (RESCO: 10); minutes of green and pressures in the observation, and a shortest green; logs of "
        "today's control by TASK/fixed-time, actuated and max-pressure",
        "pip install 'marline[traffic]'",
    ),
}
