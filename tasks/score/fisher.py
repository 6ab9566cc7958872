"""Fisher: second-order change of the loss if the unit were zero, sum 1/2 w^2 F with the diagonal empirical Fisher F.

F is the mean over batches of (dL/dw)^2, as in Theis et al. (2018); the saliency is that of Optimal Brain Damage
(LeCun, Denker & Solla, 1990).
"""

from tasks.score.criterion import by_gradient

FISHER = by_gradient(lambda w, g: 0.5 * (w * g) ** 2)
