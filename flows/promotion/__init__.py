"""Which model is the champion: the gate, the transaction that changes it, and the history."""
