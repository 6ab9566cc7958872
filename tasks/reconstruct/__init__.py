"""What the weights that stay become when others are removed: matrices in, matrices out, no model."""
