"""The mapping file that `marline data import` writes, with comments that say what may be changed."""

from __future__ import annotations

from marline.data.proposal.draft import Proposal
from marline.data.proposal.text import told_once
from marline.data.toml import to_toml

_HEAD = """How `marline data import` reads these tables. Edit it, and give it with --mapping.
Names of columns may be patterns: * stands for any letters, ? for one. Lists may mix names and patterns;
a name with a comma, a bracket or a blank in it goes in quotes. Everything below [columns] may be left out."""
_SECTIONS = {
    ("rewards",): """Whose the rewards are: "per-agent", or "shared" by all agents.""",
    ("table",): """How text is written: separator, decimal ("." or ","), encoding, time_format as strptime has it, and
nothing, the words that stand where there is no number.""",
    (
        "rows",
    ): """missing: "refuse", or "cut", which leaves a row out in which something is missing, and ends the episode
before it. repeated: "refuse", or "first", of several rows of one step. continuing: nothing ever ends for good,
where no column says so. every: how far apart two steps are; where it is more, an episode ends. sort: put rows in
the order of episode and step first. align: keep only steps that all agents have.""",
    ("columns",): """Which columns are what, in this order. Keys: agent, episode, step, observations, actions, rewards,
terminals, timeouts, next_observations, action_masks, next_action_masks, timestamps, policy.""",
    (
        "values",
    ): """What is known of columns, by name or pattern. low and high: of an action, the ends of what the agent can
do; of an observation or reward, values beyond count as missing. unit. factor: multiplied by; -1 makes a reward of
a cost. one_hot: words, or whole numbers, that become a number each. choices: words that are the choices 0, 1, ...
of an action. other: "refuse", "missing" or, of one_hot, "zeros": what other words than those are. fill: for how many
rows in a row the last value stands for a missing one.""",
    ("agents",): """The team. from: what the table calls an agent. An agent may have columns of its own (observations,
actions, rewards, ...) and [agents.NAME.values.COLUMN] of its own.""",
}
_MOST_LEFT = 40


def to_text(proposal: Proposal) -> str:
    """The file for a proposed mapping."""
    comments = {**_SECTIONS, **proposal.comments}
    left = [name for name, role in proposal.roles.items() if role.key == "left out"]
    if left:
        shown = ", ".join(left[:_MOST_LEFT]) + (", ..." if len(left) > _MOST_LEFT else "")
        comments["columns",] = f"{comments['columns',]}\nLeft out: {shown}"
    to_decide = [problem for problem in proposal.problems if problem.is_open]
    head = _HEAD
    if to_decide:
        head += "\n\nTo be decided first:" + "".join(f"\n- {text}: {fix}" for text, fix in told_once(to_decide))
    return to_toml({"version": 1, "columns": {}, **proposal.mapping.to_document()}, comments, head)
