"""curvlinops: its operators on PyTorch. Every product with the Gauss-Newton matrix does its own forward pass, and so do
the factors of K-FAC, which come from fresh operators; running means and momentum are added here."""

import torch
from curvlinops import FisherType, GGNLinearOperator, KFACInverseLinearOperator, KFACLinearOperator
from torch.nn import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    Linear,
    Module,
    Parameter,
    ParameterList,
    Sequential,
    Sigmoid,
)

from ..works import KFAC_DAMPING, KFAC_INTERVAL, KFAC_MOMENTUM, KFAC_RATE
from . import Amortized
from .torch_ import Torch, loss_of, outputs


class Net(Module):
    def __init__(self, work, params):
        super().__init__()
        self.work, self.params = work, ParameterList([Parameter(p.detach()) for p in params])

    def forward(self, x):
        return outputs(self.work, x, list(self.params))


class Curvlinops(Torch):
    title = "curvlinops"
    distributions = ("curvlinops-for-pytorch", "torch")
    nets = ("mlp",)

    gradient = None

    def setup(self, work, problem):
        params, x, t, v = super().setup(work, problem)
        if work.loss == "bernoulli":  # a mean over samples and outputs: weighted, a sum over outputs
            loss = BCEWithLogitsLoss(weight=torch.full(t.shape[1:], float(t.shape[1]), device=self.device))
        else:
            loss = CrossEntropyLoss()
        net = Net(work, params)

        def operator():
            return GGNLinearOperator(
                net, loss, list(net.parameters()), [(x, t)], check_deterministic=False, num_data=work.n
            )

        return net, operator, x, t, v

    def product(self, work, problem):
        _, operator, _, _, v = self.setup(work, problem)
        return lambda: (None, operator() @ v)

    def products(self, work, problem):
        _, operator, _, _, v = self.setup(work, problem)
        G = operator()
        return lambda: (None, G @ v)

    def step(self, work, problem):
        net, operator, x, t, _ = self.setup(work, problem)
        params = list(net.parameters())

        def run():
            loss = loss_of(work, net(x), t)
            gradient = torch.autograd.grad(loss, params)
            G = operator()
            return loss, self.solve(lambda v: G @ v, gradient)

        return run

    def kfac(self, work, problem):
        """BCEWithLogitsLoss is the mean over outputs too: its S is S / O, so lam / O gives O times the direction."""
        params, x, t, _ = Torch.setup(self, work, problem)
        count = t.shape[1]
        net = Sequential()
        for W, b in zip(params[::2], params[1::2]):
            layer = Linear(*W.shape, device=self.device)
            with torch.no_grad():
                layer.weight.copy_(W.T)
                layer.bias.copy_(b)
            net.extend([Sigmoid(), layer] if len(net) else [layer])
        params, decay = list(net.parameters()), 0.95

        def measured(kind):
            K = KFACLinearOperator(
                net,
                BCEWithLogitsLoss(),
                params,
                [(x, t)],
                fisher_type=kind,
                separate_weight_and_bias=False,
                check_deterministic=False,
                num_data=work.n,
                num_per_example_loss_terms=1,
            )
            K.compute_kronecker_factors()
            return K

        def inverse(K):
            return KFACInverseLinearOperator(K, KFAC_DAMPING / count, use_heuristic_damping=True, min_damping=0.0)

        def gradient():
            loss = loss_of(work, net(x), t)
            return loss, torch.autograd.grad(loss, params)

        def step(P, velocity, gradients):
            with torch.no_grad():
                for v, d in zip(velocity, P @ list(gradients)):
                    v.mul_(KFAC_MOMENTUM).sub_(d, alpha=KFAC_RATE / count)
            return velocity

        loss, gradients = gradient()
        first = step(inverse(measured(FisherType.EMPIRICAL)), [torch.zeros_like(p) for p in params], gradients)
        answer = loss, [v.T if v.ndim == 2 else v for v in first]

        means, velocity = measured(FisherType.MC), [torch.zeros_like(p) for p in params]
        kept = [inverse(means)]
        kept[0] @ list(gradients)

        def update(refresh):
            loss, gradients = gradient()
            new = measured(FisherType.MC)
            for factor in ("_input_covariances", "_gradient_covariances"):
                for name, mean in getattr(means, factor).items():
                    mean.mul_(decay).add_(getattr(new, factor)[name], alpha=1 - decay)
            if refresh:
                kept[0] = inverse(means)
            step(kept[0], velocity, gradients)
            return [p + v for p, v in zip(params, velocity)]

        return Amortized(lambda: update(False), lambda: update(True), KFAC_INTERVAL, answer)
