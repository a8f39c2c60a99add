def tier(x):
    return "tier " + ("gold" if x > 100 else "none")
