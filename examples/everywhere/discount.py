# ferrule: name=discount version=1.0.0 description="The discount in Python. What it decides is in the README."
# ferrule: fn=before_checkout in=json out=json import=loyalty_points
from ferrule import INVALID, Failure, host

MOST = 2**53 - 1  # what JavaScript has exactly, too


def expect(holds, what):
    if not holds:
        raise Failure(INVALID, f"expected {what}")


def member(of, name, kind):
    expect(isinstance(of, dict) and type(of.get(name)) is kind, f"{name}, of {kind.__name__}")
    return of[name]


def number(of, name):
    value = member(of, name, int)
    expect(0 <= value <= MOST, f"{name} of 0 to {MOST}")
    return value


def percent(amount, percent):
    """So much of an amount, to the nearest cent, half of one up."""
    return (amount * percent + 50) // 100


def before_checkout(cart):
    customer, coupon = member(cart, "customer", str), cart.get("coupon") or ""
    expect(cart.get("coupon") in (None, "", "FIVE"), "the coupon FIVE")
    lines = [
        (member(item, "name", str), member(item, "category", str), number(item, "cents") * number(item, "quantity"))
        for item in member(cart, "items", list)
    ]
    subtotal = sum(cost for _, _, cost in lines)
    expect(subtotal <= MOST, "a cart that costs less")
    points = int(host.loyalty_points(customer)) if customer else 0

    saved = [(percent(cost, 10), name) for name, category, cost in lines if category == "books"]
    most, best = max(saved, key=lambda line: line[0], default=(0, None))  # the first of equal ones
    books = sum(off for off, _ in saved)
    remains = subtotal - books
    volume = percent(remains, 10 if remains >= 50_000 else 5 if remains >= 10_000 else 0)
    reduced = min(500, remains - volume) if coupon else 0
    spent = min(points, (remains - volume - reduced) // 2)
    return {"cents": books + volume + reduced + spent, "points": spent, "best": best if most else None}
