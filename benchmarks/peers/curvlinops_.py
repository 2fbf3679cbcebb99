"""curvlinops: its Gauss-Newton operator on PyTorch; every product does its own forward pass."""

import torch
from curvlinops import GGNLinearOperator
from torch.nn import BCEWithLogitsLoss, CrossEntropyLoss, Module, Parameter, ParameterList

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
