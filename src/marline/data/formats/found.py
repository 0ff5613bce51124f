"""What turns out about a table while it is read: which columns are what, and what is known of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from marline.data.channels import Channels
from marline.data.layout import logs_of
from marline.data.mapping import ImportMapping, Values
from marline.errors import ConfigError, DataError
from marline.types import AgentID


@dataclasses.dataclass
class Found:
    """What turned out so far.

    Attributes:
        notes: sentences for the user.
        columns: by agent and key, which source column each entry is, in order.
        values: by agent and key, what is known of each entry.
        choices: by agent, the words that are its choices.
        policies: by agent, the policies that its rows name, and the first row of each.
    """

    notes: list[str] = dataclasses.field(default_factory=list)
    columns: dict[AgentID | None, dict[str, list[str]]] = dataclasses.field(default_factory=dict)
    values: dict[AgentID | None, dict[str, list[Values]]] = dataclasses.field(default_factory=dict)
    choices: dict[AgentID | None, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    policies: dict[AgentID | None, dict[str, int]] = dataclasses.field(default_factory=dict)

    def channels(self, agent: AgentID | None, mapping: ImportMapping, where: str) -> Channels:
        """What is said of an agent's columns.

        Entries have the names of columns that the user named; `notes` is told where they cannot be names.

        Raises:
            DataError: a range has one end.
        """
        entries, values = self.columns[agent], self.values[agent]
        choices = self.choices.get(agent)
        fields: dict[str, Any] = {}
        for key, part in (("observations", "observation"), ("actions", "action")):
            known = values.get(key, [])
            if part == "action" and choices:
                fields |= self._names(where, "choices", {"action_names": choices})
                continue
            if key in mapping.columns_of(agent) and entries.get(key):
                fields |= self._names(where, f"columns of the {key}", {f"{part}_names": entries[key]})
            if any(its.unit for its in known):
                fields[f"{part}_units"] = [its.unit for its in known]
        actions = [] if choices else values.get("actions", [])
        if any(its.low is not None or its.high is not None for its in actions):
            for name, its in zip(entries["actions"], actions, strict=True):
                if (its.low is None) != (its.high is None):
                    whose = where if agent is None else logs_of(agent, where)
                    raise DataError(
                        f"{whose}: only one of low and high of the action {name[:40]!r} is given; give both"
                    )
            fields["action_low"] = [-1.0 if its.low is None else its.low for its in actions]
            fields["action_high"] = [1.0 if its.high is None else its.high for its in actions]
        return Channels(**fields)

    def _names(self, where: str, what: str, names: dict[str, Any]) -> dict[str, Any]:
        try:
            Channels(**names)
        except ConfigError as error:
            note = f"{where}: the {what} give them no names: {error}"
            self.notes += [note] if note not in self.notes else []
            return {}
        return names
