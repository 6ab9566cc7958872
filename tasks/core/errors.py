"""The ways a command ends badly."""


class UserError(Exception):
    """A mistake in what was given: says what was given, what is allowed, what to do. Exit status 2."""


class EnvironmentFault(Exception):
    """The machine or a service failed: disk, network, memory. Exit status 1."""


class PassingFault(EnvironmentFault):
    """A fault that may be gone the next time: the same work may be tried once more."""
