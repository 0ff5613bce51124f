"""What the words in a column's name say, in English: a key, a unit, a cost, a phase, an agent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from marline.data.layout import by_number
from marline.types import AgentID

NAMES: dict[str, set[str]] = {
    "agent": set(
        "agent robot intersection junction signal light tls node player unit vehicle drone machine "
        "device actor controller station car truck pump house building arm limb leg bot piece hero "
        "champion character seat turbine elevator lift inverter".split()
    ),
    "episode": set("episode ep run trial match game day date session rollout flight mission round".split()),
    "step": set("step tick frame turn timestep".split()),
    "timestamps": set("timestamp timestamps time datetime clock ts".split()),
    "rewards": set("reward rewards rew score payoff utility points profit fitness cost costs penalty".split()),
    "terminals": set("terminated terminal terminals done dead crashed finished ended gameover".split()),
    "timeouts": set("truncated truncation timeout timeouts".split()),
}
ENDINGS = {"terminals": {"over", "last"}}  # as in game_over and is_last, and not as in over_speed
LONE = {"step": {"t", "k"}, "rewards": {"r"}, "actions": {"u"}}  # by themselves
ACTIONS = set(
    "action actions act cmd command control ctrl torque motor green setpoint move throttle steering valve brake order "
    "decision choice actuator".split()
)
COSTS = {"cost", "costs", "penalty"}
PHASES = {"phase", "mode", "stage", "state", "program", "plan", "kind", "type", "class"}
KEYS_OF_ROWS = {"id", "index", "uuid", "row", "seed", "version", "idx"}
_FILLERS = set(
    "id name no nr number num label s ms sec secs seconds min minutes pct percent m mm cm km deg rad hz kw "
    "w v a nm kmh n count idx index".split()
)
_UNITS = {
    "s": "s",
    "sec": "s",
    "secs": "s",
    "seconds": "s",
    "ms": "ms",
    "pct": "%",
    "percent": "%",
    "deg": "deg",
    "rad": "rad",
    "m": "m",
    "mm": "mm",
    "cm": "cm",
    "km": "km",
    "kmh": "km/h",
    "kw": "kW",
    "hz": "Hz",
    "nm": "Nm",
}
_SYMBOLS = set(
    "% ° °C °/s C K s ms min h Hz kHz rpm m mm cm km m/s km/h m/s2 m/s² rad deg rad/s deg/s g kg t N kN Nm N/m J kJ Wh "
    "kWh W kW V mV A mA Ah Pa kPa bar l ml l/min l/s m3/h m³/h".split()
)
_IN_BRACKETS = re.compile(r"\s*(?:\[([^\[\]]+)\]|\(([^()]+)\))\s*$")


def raw_words(name: str) -> list[str]:
    """The words of a name, in small letters."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [part.lower() for part in re.split(r"[^A-Za-z]+", spaced) if part]


def words(name: str) -> list[str]:
    """The words of a name, without those that only say a unit or that it is a number."""
    tokens = raw_words(name)
    return [token for place, token in enumerate(tokens) if place == 0 or token not in _FILLERS]


def unit_of(name: str, present: Sequence[str]) -> str | None:
    """The unit that a name ends with, in brackets or as a word; a lone letter among others of its kind is none."""
    found = _IN_BRACKETS.search(name)
    bracketed = (found[1] or found[2]).strip() if found else ""
    if found and found.start() > 0 and bracketed in _SYMBOLS:
        return bracketed
    *stem, last = raw_words(name) or [""]  # of digits and signs, or of letters that are not Latin
    if not stem or last not in _UNITS:
        return None
    kin = [raw_words(other) for other in present if other != name]
    among = any(other[:-1] == stem and len(other[-1]) == 1 and other[-1] != last for other in kin if other)
    return None if len(last) == 1 and among else _UNITS[last]


def file_names(labels: Iterable[str]) -> dict[str, AgentID]:
    """Names of agents that can name a file, by what a table calls them."""
    names: dict[str, AgentID] = {}
    taken: set[str] = set()
    for label in labels:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", label).strip("._-")[:90] or "agent"
        number, unique = 2, name
        while unique.lower() in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique.lower())
        names[label] = unique
    return dict(sorted(names.items(), key=lambda item: by_number(item[1])))
