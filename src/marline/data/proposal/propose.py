"""A mapping of tables, with all that stands against it."""

from __future__ import annotations

import dataclasses

from marline.data.formats.survey import Survey
from marline.data.mapping import KEYS, ImportMapping
from marline.data.proposal.draft import Draft, Proposal
from marline.data.proposal.gaps import look_at_rows
from marline.data.proposal.meanings import look_at_values
from marline.data.proposal.roles import describe, name_agents, take_columns
from marline.errors import DataError


def propose(found: Survey, given: ImportMapping, *, guess: bool = True, is_joint: bool = False) -> Proposal:
    """A mapping of tables, with all that stands against it.

    Args:
        found: what is in the tables.
        given: what is said already, which is kept.
        guess: whether to guess what is not said; otherwise only the usual names of columns are taken.
        is_joint: whether somebody else tells whose the columns are.

    Raises:
        DataError: there are no rows.
    """
    if not any(found.rows):
        raise DataError(f"{found.paths[0]} holds no rows; export a row for each step of each agent")
    style = found.style
    said = dataclasses.replace(
        given, separator=style.separator, decimal=style.decimal, encoding=style.encoding, time_format=style.time_format
    )
    draft = Draft(found, said, guess, is_joint, values=dict(said.values), agents=dict(said.agents))
    take_columns(draft)
    name_agents(draft)
    look_at_values(draft)
    look_at_rows(draft)
    return Proposal(found, _mapping(draft), describe(draft), draft.problems, draft.orders, draft.comments)


def _mapping(draft: Draft) -> ImportMapping:
    agents = dict(draft.agents)
    for agent, columns in draft.own.items():
        if not draft.given.has_own_columns:
            agents[agent] = dataclasses.replace(
                agents[agent], columns={key: tuple(names) for key, names in columns.items()}
            )
    columns = dict(draft.given.columns)
    if draft.guess:
        columns = {key: names for key, names in columns.items() if not draft.own or key in draft.common}
        columns |= {key: tuple(names) for key, names in draft.common.items() if key not in columns}
    columns = {key: columns[key] for key in KEYS if key in columns}
    return dataclasses.replace(
        draft.given,
        columns=columns if draft.guess else draft.given.columns,
        values=draft.values,
        agents=agents,
        **(draft.rows if draft.guess else {}),
    )
