"""An algorithm of one's own: plain behaviour cloning, whose policies can be exported too. From the command line:
marline run --task cooperative-navigation-2 --algorithm custom_algorithm:Cloning --trust --run runs/cloning"""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import marline
from marline.export.policies import emit
from marline.nn.mlp import MLP


class Policy(eqx.Module):
    mlp: MLP

    def __call__(self, observation, *, key, action_mask=None):
        return jnp.tanh(self.mlp(observation))


@emit.register(Policy)
def _(policy, graph, observation):  # the same as ONNX, for marline export
    return graph.node("Tanh", graph.mlp(policy.mlp, observation))


@dataclasses.dataclass(frozen=True)
class Cloning:
    hidden: tuple[int, ...] = (64, 64)
    gamma: float = 0.99

    def init(self, experience, *, key):
        spec = experience.spec
        policy = Policy(MLP.create(spec.observation_size, spec.action_size, self.hidden, key=key))
        return policy, optax.adam(1e-3).init(eqx.filter(policy, eqx.is_array))

    def update(self, state, batch, *, key):
        def loss(policy):
            actions = jax.vmap(lambda observation: policy(observation, key=key))(batch.observation)
            return jnp.mean(jnp.square(actions - batch.action))

        policy, optimizer = state
        cloning_loss, gradient = jax.value_and_grad(loss)(policy)  # a "..._loss" that is not finite stops the agent
        updates, optimizer = optax.adam(1e-3).update(gradient, optimizer)
        return (eqx.apply_updates(policy, updates), optimizer), {"cloning_loss": cloning_loss}

    def policy(self, state):
        return state[0]

    def critic(self, state):
        return None  # it learns no values, so otc-value has nothing to compare


def main(folder: Path, **settings) -> marline.Study:
    samplers = ("uniform", "otc-two-stage", "shuffled")
    task = "cooperative-navigation-2"
    return marline.Study.create(folder, task=task, algorithm=Cloning(), samplers=samplers, **settings).run()
