"""What is raised where the agent is lost while something is asked of it."""


class SessionLostError(Exception):
    """The agent was lost while something was asked of it."""
