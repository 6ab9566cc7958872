"""How Secateur is run by servers: on this machine, in containers, on Kubernetes."""
