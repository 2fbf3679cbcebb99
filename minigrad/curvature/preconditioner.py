"""Martens' diagonal preconditioner for conjugate gradients (Martens 2010, section 4.7)."""

from ..linalg import Diagonal


def martens_preconditioner(P, lam, exponent=0.75):
    """M = [diag(mean over rows g of P of g * g) + lam I]^-exponent, as a psd operator that approximates the inverse.

    P: SampleGradients, of the losses (Martens' choice, `per_sample_gradients`) or of drawn targets (`fisher(...).P`).
    lam: the damping of the system; positive, or M would be infinite where all gradients are zero.
    Martens prints the sum over samples. Our loss and metric are means, to which lam is added, so the mean is what lam
    compares with; beside the sum, lam would shrink as the batch grows. (A factor of all of M changes nothing in CG.)
    One backward sweep and a matrix product a layer. Raises ValueError for lam <= 0, and what `affine_layers` raises.
    """
    if not lam > 0:
        raise ValueError(f"martens_preconditioner: lam must be positive, got {lam}")
    return Diagonal((P.squares() * (1.0 / P.shape[0]) + lam) ** -exponent, psd=True, name="M")
