"""Learning from what was tried: logs of single choices, exploration, which answers to buy."""
