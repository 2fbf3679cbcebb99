"""Rung 4: diagonal blocks by layer against those of the dense matrix."""

import numpy as np
import pytest

from minigrad.curvature import block_diagonal, fisher, gauss_newton, gradient_covariance, hessian
from minigrad.linalg import Matrix, cg, identity
from minigrad.nets import Layout
from tests.curvature.cases import CASES, each_case, made, problem
from tests.helpers import close, dev, host

BUILDS = {
    "hessian": hessian,
    "gauss_newton": gauss_newton,
    "fisher": lambda J, theta, batch: fisher(J, theta, batch[0]),
    "covariance": lambda J, theta, batch: gradient_covariance(J, theta, batch, centred=True),
}


def blocks_alone(dense, layout):
    out = np.zeros_like(dense)
    for where in layout.slices.values():
        out[where, where] = dense[where, where]
    return out


@each_case
@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_blocks_of_the_dense_matrix(net, loss, build):
    theta, x, t = problem(net, loss)
    G = made(build, net, loss, theta, x, t)
    B = block_diagonal(G, net.layout)
    dense = host(G.dense())
    close(B.dense(), blocks_alone(dense, net.layout))
    for block, where in zip(B.blocks, net.layout.slices.values(), strict=True):
        close(block.dense(), dense[where, where])
    assert (B.psd, B.symmetric) == (G.psd, True)
    assert str(B) == f"BlockDiagonal({', '.join(net.layout.names)})"


def test_an_operator_that_is_not_symmetric(rng, device):
    layout = Layout({"a": (2, 2), "b": (3,)})
    A = rng.standard_normal((7, 7))
    B = block_diagonal(Matrix(dev(A)), layout)
    assert not B.symmetric
    close(B.dense(), blocks_alone(A, layout))
    close(B.T.dense(), blocks_alone(A, layout).T)
    assert (B @ dev(np.ones(7), "float32")).shape == (7,)


def test_a_product_costs_one_of_G_a_block():
    net, loss = CASES["Categorical, two layers"]
    theta, x, t = problem(net, loss)
    G = made(gauss_newton, net, loss, theta, x, t)
    block_diagonal(G, net.layout) @ dev(theta)
    assert G.products == 3


def test_it_can_be_solved_with():
    net, loss = CASES["Bernoulli"]
    theta, x, t = problem(net, loss)
    B = block_diagonal(made(gauss_newton, net, loss, theta, x, t), net.layout) + 0.1 * identity(theta.size)
    found, info = cg(B, dev(theta), rtol=1e-12)
    assert info.converged
    close(found, np.linalg.solve(host(B.dense()), theta), rtol=1e-9)


def test_float32_stays_float32():
    net, loss = CASES["Categorical"]
    theta, x, t = problem(net, loss)
    B = block_diagonal(made(gauss_newton, net, loss, theta, x, t, "float32"), net.layout)
    assert B.dtype == (B @ dev(theta, "float32")).dtype == "float32"


@pytest.mark.parametrize("shape", [(6, 6), (8, 8), (7, 6), (6, 7)])
def test_another_size(shape):
    with pytest.raises(
        ValueError, match=rf"block_diagonal: expected an operator \(7, 7\), got A  \({shape[0]} x {shape[1]}"
    ):
        block_diagonal(Matrix(dev(np.zeros(shape))), Layout({"a": (2, 2), "b": (3,)}))
