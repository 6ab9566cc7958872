"""Where a model comes from: the chain of records behind it, shown, verified, attested and rebuilt."""
