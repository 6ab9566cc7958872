"""The two ways a command ends badly."""


class UserError(Exception):
    """A mistake in what was given: says what was given, what is allowed, what to do. Exit status 2."""


class EnvironmentFault(Exception):
    """The machine or a service failed: disk, network, memory. Exit status 1."""
