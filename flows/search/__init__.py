"""`secateur search`: many recipes of one space tried cheaply, the promising ones to their end, and the best of them."""
