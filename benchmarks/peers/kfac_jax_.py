"""kfac-jax, the K-FAC of DeepMind on JAX: its optimizer compiles a whole update. 0.0.8 needs a JAX older than 0.9."""

import jax
import jax.numpy as jnp
import kfac_jax

from ..works import KFAC_DAMPING, KFAC_INTERVAL, KFAC_MOMENTUM, KFAC_RATE
from . import Amortized
from .jax_ import Jax, loss_of, outputs


class KfacJax(Jax):
    title = "kfac-jax"
    distributions = ("kfac-jax", "jax")

    gradient = product = products = step = None

    def kfac(self, work, problem):
        params, x, t, _ = self.setup(work, problem)

        def loss(params, batch):
            x, t = batch
            r = outputs(work, x, params)
            kfac_jax.register_sigmoid_cross_entropy_loss(r, t)
            return loss_of(work, r, t)

        def stepper(mode, damping=KFAC_DAMPING):
            optimizer = kfac_jax.Optimizer(
                jax.value_and_grad(loss),
                l2_reg=0.0,
                learning_rate_schedule=lambda step: KFAC_RATE,
                momentum_schedule=lambda step: KFAC_MOMENTUM,
                damping_schedule=lambda step: damping,
                estimation_mode=mode,
                curvature_ema=0.95,
                curvature_update_period=1,
                inverse_update_period=KFAC_INTERVAL,
                num_burnin_steps=0,
            )
            copies = lambda tree: jax.tree.map(jnp.copy, tree)
            now = [copies(params), optimizer.init(copies(params), jax.random.PRNGKey(0), (x, t))]

            def step(count):
                """The update after `count` others, for its factors are inverted where KFAC_INTERVAL divides that."""
                now[1].step_counter = jnp.full_like(now[1].step_counter, count)
                new = optimizer.step(*now, jax.random.PRNGKey(count), batch=(x, t), global_step_int=count)
                now[:] = new[:2]
                return jax.block_until_ready(new)

            return step

        # its empirical S is divided by N twice, so lam / N gives N times the direction
        _, state, stats = stepper("fisher_empirical", KFAC_DAMPING / work.n)(0)
        answer = stats["loss"], jax.tree.map(lambda v: v / work.n, state.velocities)
        step = stepper("fisher_gradients")
        step(0)
        return Amortized(lambda: step(1), lambda: step(KFAC_INTERVAL), KFAC_INTERVAL, answer)
