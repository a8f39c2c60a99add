# ferrule: name=work version=1.0.0
# ferrule: fn=echo fn=count_vowels fn=checkout in=json out=json import=loyalty_points
from ferrule import host


def echo(text):
    return text


def count_vowels(text):
    return str(sum(map(text.count, "aeiouAEIOU")))


def checkout(cart):
    points = int(host.loyalty_points(cart["customer"]))
    if points == 0 and cart["total_cents"] > 10000:
        return {"cents": cart["total_cents"] // 5, "reason": "20 % for a new customer"}
    return {"cents": 0, "reason": "no"}
