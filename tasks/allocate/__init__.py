"""How what is removed is shared out over layers and kinds of unit; pure functions of scores, losses and costs.

Every method takes groups (a layer and a kind of unit each, under a key of the caller's) and returns an `Allocation`:
how many units each group keeps. `Units.best` then says which ones these are.
"""
