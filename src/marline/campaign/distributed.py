"""One campaign whose agents live on different machines, each with its own logs, which stay there.

Where an agent lives there is a campaign of a team of one, in a run directory of its own; a Ray actor runs it. What
travels are policies and what was measured, and in a simulation what each agent itself observed there, to its own
machine and no other. As every random stream is an agent's own, the policies are those that a campaign on one machine
with the logs of all would have come to.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from marline.campaign.campaign import Campaign
from marline.campaign.read_logs import Arrays
from marline.campaign.robots import Robots, simulate
from marline.configuration.planning import plan_campaign
from marline.data import dataset
from marline.data.channels import Channels
from marline.data.checkpoints import versions
from marline.data.dataset import Dataset
from marline.envs import Task
from marline.errors import DivergenceWarning, MarlineError, require, require_name
from marline.inputs.arguments import checked_arguments
from marline.policy import NumpyPolicy
from marline.runs.divergences import sentence
from marline.runs.layout import RunDirectory
from marline.runs.policies import read_policies
from marline.study import ray_cluster as cluster
from marline.types import AgentID, Policy

Report = dict[str, Any]  # what was measured of one agent
Own = Dataset | Arrays | str | Path  # one agent's logs, or where they lie on its machine
MOST_RETRIES = 3  # of one request, whose actor was lost each time


class Site(NamedTuple):
    """Where an agent lives.

    Attributes:
        node: address of its machine, as the cluster knows it: `ray list nodes` names them.
        logs: its offline logs there: a dataset folder.
        run: its run directory there, made if it is not there.
    """

    node: str
    logs: str | Path
    run: str | Path


class DistributedCampaign:
    """A team whose members are elsewhere; `train`, then for each deployment `deploy` and `tune`, as of `Campaign`.

    What a method did is on the disks of the sites when it returns. An actor that is lost is started again on its
    machine and goes on from there; a machine that is lost is waited for. A process that connects to the same sites
    goes on where another stopped.

    Attributes:
        agents: the team.
    """

    def __init__(self, homes: Mapping[AgentID, Any], seed: int, rows_per_deployment: int) -> None:
        self.agents = tuple(homes)
        self._homes, self._seed, self._num_rows = homes, seed, rows_per_deployment
        self._ray = cluster.require_ray()

    @staticmethod
    @contextlib.contextmanager
    @checked_arguments
    def connect(
        sites: Mapping[AgentID, Site],
        *,
        rows_per_deployment: int,
        seed: int = 0,
        address: str | None = None,
        **plan: Any,
    ) -> Iterator[DistributedCampaign]:
        """Be connected to a team.

        Args:
            sites: where each agent lives.
            rows_per_deployment: the most rows an agent logs at one deployment.
            seed: of all randomness.
            address: of the Ray cluster, see `cluster.connected`.
            plan: what else `Campaign.create` takes: algorithm, sampler, deployments, offline_updates, updates.

        Raises:
            ConfigError: the plan makes no sense, Ray is not installed, there is no such cluster, or a machine is not
                in it.
        """
        require(len(sites) > 0, "sites are empty; give that of at least one agent")
        plan_campaign(logs=None, rows_per_deployment=rows_per_deployment, seed=seed, **plan)  # or refuse it here
        with cluster.connected(address):
            ray = cluster.require_ray()
            nodes = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
            for site in sites.values():
                require_name(site.node, nodes, "machine of the cluster")
            plan |= {"rows_per_deployment": rows_per_deployment, "seed": seed}
            homes = {}
            for agent, site in sites.items():
                actor = ray.remote(_Home).options(
                    num_cpus=1,
                    max_restarts=-1,
                    max_task_retries=MOST_RETRIES,
                    resources={f"node:{site.node}": 1e-3},  # every machine has 1 of itself
                    runtime_env=cluster.environment(),
                )
                homes[agent] = actor.remote(agent, site, plan, versions())
            try:
                yield DistributedCampaign(homes, seed, rows_per_deployment)
            finally:
                for home in homes.values():
                    ray.kill(home)

    @property
    def number(self) -> int:
        """Deployments that all agents were tuned on so far."""
        return min(self._ask("number").values())

    @property
    def policies(self) -> dict[AgentID, NumpyPolicy]:
        """The policies to deploy now: arrays in, arrays out, on the scale of each agent's offline logs."""
        policies, channels = self._policies(self.number), self._ask("channels")
        return {
            agent: NumpyPolicy(policy, seed=self._seed, channels=channels[agent]) for agent, policy in policies.items()
        }

    def train(self) -> None:
        """Train every agent on its offline logs, all at once. One that diverges stops, with a `DivergenceWarning`."""
        self._ask("train")
        self._warn_of_divergence(0)

    @checked_arguments
    def deploy(self, robots: Robots | Task) -> dict[AgentID, Dataset | Arrays]:
        """Hand the policies to `robots`, or to a task that is played here, and return the logs that come back.

        Where robots log on machines of their own, call `export`, and give `tune` the places of their logs there.
        """
        if not isinstance(robots, Task):
            return dict(robots(self.policies))
        number = self.number + 1
        policies, channels = self._policies(number - 1), self._ask("channels")
        return dict(simulate(robots, policies, channels, number, seed=self._seed, num_rows=self._num_rows))

    def export(self) -> dict[AgentID, str]:
        """Write each agent's bundle on its own machine; returns in which folder there."""
        return self._ask("export")

    @checked_arguments
    def tune(self, logs: Mapping[AgentID, Own]) -> dict[AgentID, Report]:
        """Give each agent its own logs of the next deployment, tune all, and return what was measured of each.

        Args:
            logs: by agent, a dataset, arrays, or the path of what `marline ingest` takes, on the agent's machine.
        """
        for agent in logs:
            require_name(agent, self.agents, "agent")
        missing = [agent for agent in self.agents if agent not in logs]
        require(not missing, f"logs of {', '.join(missing)} are missing; give those of every agent")
        number = self.number + 1
        reports = self._ask("tune", {agent: (number, own) for agent, own in logs.items()})
        self._warn_of_divergence(number)
        return reports

    def _warn_of_divergence(self, number: int) -> None:
        for told in self._ask("divergence", dict.fromkeys(self.agents, (number,))).values():
            if told is not None:
                warnings.warn(told, DivergenceWarning, stacklevel=3)

    def _policies(self, number: int) -> dict[AgentID, Policy]:
        return self._ask("policy", dict.fromkeys(self.agents, (number,)))

    def _ask(self, what: str, arguments: Mapping[AgentID, Iterable[Any]] | None = None) -> dict[AgentID, Any]:
        """Ask all homes at once."""
        given = dict.fromkeys(self.agents, ()) if arguments is None else arguments
        asked = {agent: getattr(home, what).remote(*given[agent]) for agent, home in self._homes.items()}
        answers = {}
        for agent, answer in asked.items():
            try:
                with cluster.errors_of_workers(f"{what} of {agent}"):
                    answers[agent] = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                raise MarlineError(f"{agent} does not answer: {error}") from None
        return answers


class _Home:
    """The life of an actor: an agent's campaign, as a team of one. Each request may come again after a crash."""

    def __init__(self, agent: AgentID, site: Site, plan: Mapping[str, Any], versions: cluster.Versions) -> None:
        self._agent, self._site, self._plan, self._versions = agent, site, plan, versions
        self._opened: Campaign | None = None

    def number(self) -> int:
        return self._campaign().number

    def train(self) -> None:
        self._campaign().train()

    def policy(self, number: int) -> Policy:
        """As it went into the deployment after `number`, even if it was tuned on that since."""
        run, config = RunDirectory(Path(self._site.run)), self._campaign().config
        (name,), (seed,) = config.samplers, config.seeds
        return read_policies(run, config, seed, name if number else None, number)[-1][self._agent]

    def channels(self) -> Channels:
        return self._campaign().channels[self._agent]

    def divergence(self, number: int) -> str | None:
        """What is to be told of it, if the agent left the finite numbers at a deployment; 0 is offline training."""
        told = [sentence(stop, Path(self._site.run)) for stop in self._campaign().diverged if stop.deployment == number]
        return told[0] if told else None

    def export(self) -> str:
        return str(self._campaign().export().folder)

    def tune(self, number: int, logs: Own) -> Report:
        campaign = self._campaign()
        if campaign.number < number:
            if isinstance(logs, str | Path):
                campaign.ingest(logs)
                campaign.tune()
            else:
                campaign.tune({self._agent: logs})
        return {**campaign.records[number]["agents"][self._agent], "return": campaign.returns[number - 1]}

    def _campaign(self) -> Campaign:
        # not when the actor is made: there Ray would hide what went wrong
        if self._opened is None:
            cluster.require_versions(self._versions)
            require_name(self._agent, dataset.agents_of(self._site.logs), f"agent with logs in {self._site.logs}")
            own = {self._agent: dataset.load(self._site.logs)[self._agent]}
            self._opened = Campaign.create(self._site.run, own, **self._plan)
        return self._opened
