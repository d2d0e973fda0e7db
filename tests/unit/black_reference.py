"""Black's formula in decimal arithmetic of 50 digits and more: the reference that double precision is judged by.

Inputs and outputs are ``Decimal``; floats are taken exactly (``Decimal(x)``). The normal distribution is summed from
its power series about zero, with enough digits for what cancels, and beyond 16 from its asymptotic series.
"""

from decimal import Decimal, getcontext, localcontext

DIGITS = 50
_SPARE = 15
_ASYMPTOTIC = 16  # its smallest term is exp(-128) = 1e-56 there
PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808651"
)


def normal_cdf(x: Decimal) -> Decimal:
    """Standard normal distribution function, to ``DIGITS`` relative digits."""
    if x > 0:
        return 1 - normal_cdf(-x)
    cancelled = int(x * x / Decimal("4.6")) if -x < _ASYMPTOTIC else 0
    with localcontext() as context:
        context.prec = DIGITS + _SPARE + cancelled
        density = (-x * x / 2).exp() / (2 * PI).sqrt()
        square = x * x
        if -x >= _ASYMPTOTIC:
            term = total = 1 / -x
            n = 1
            while abs(term) > Decimal(10) ** -(DIGITS + 5) * abs(total) and n < square:
                term *= -n / square
                total += term
                n += 2
            return +(density * total)
        term = total = x
        n = 3
        while abs(term) > Decimal(10) ** -context.prec * (1 + abs(total)):
            term *= square / n
            total += term
            n += 2
        return Decimal("0.5") + density * total


def black(forward: Decimal, strike: Decimal, years: Decimal, vol: Decimal, is_call: bool, discount: Decimal) -> Decimal:
    """Price by the side out of the money and parity."""
    context = getcontext()
    assert context.prec >= DIGITS + _SPARE
    total = vol * years.sqrt()
    d1 = (forward / strike).ln() / total + total / 2
    d2 = d1 - total
    if strike >= forward:
        call = forward * normal_cdf(d1) - strike * normal_cdf(d2)
        return discount * (call if is_call else call - forward + strike)
    put = strike * normal_cdf(-d2) - forward * normal_cdf(-d1)
    return discount * (put + forward - strike if is_call else put)


def working_digits() -> int:
    """Digits that a caller's context needs."""
    return DIGITS + _SPARE
