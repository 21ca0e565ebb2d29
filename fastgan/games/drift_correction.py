"""Discretisation-drift correction: cancels the interaction that finite steps add between the players."""

from typing import ClassVar

from fastgan.games.engine import Engine
from fastgan.games.field import pulled_back
from fastgan.games.game import Game
from fastgan.games.vectors import plus, times
from fastgan.losses import Players


class DriftCorrection(Game):
    """Simultaneous descent along grad_x L_x - 1/2 D_xy L_x lr_y grad_y L_y, and the same for y.

    By backward error analysis a simultaneous step of size lr follows the flow of v + lr/2 J v instead of that of v. The
    part of J v that stems from the other player (the interaction terms) makes games unstable; this cancels it, to the
    order of lr^2. The part that stems from the player itself, which regularises, is kept.

    Args:
        critic, generator: SGD without momentum over the players' parameters.

    Rosca et al. 2021, arXiv:2105.13922, theorem 3.1.
    """

    name: ClassVar[str] = "drift-correction"
    paper: ClassVar[str] = "Rosca et al. 2021, arXiv:2105.13922"
    second_order, replays, plain = True, True, True

    def step(self, engine: Engine) -> Players:
        self.check_plain()
        field = self.field(engine, engine.batch())
        x, y = self.critic.parameters, self.generator.parameters
        x_of_critic, y_of_critic, x_of_generator, y_of_generator = field.gradients()
        v_x, v_y = ([g.detach() for g in gradients] for gradients in (x_of_critic, y_of_generator))
        drift_x = pulled_back(y_of_critic, times(v_y, self.generator.learning_rates), x)
        drift_y = pulled_back(x_of_generator, times(v_x, self.critic.learning_rates), y)
        self.descend_along(plus(v_x, drift_x, -0.5) + plus(v_y, drift_y, -0.5))
        return field.losses
