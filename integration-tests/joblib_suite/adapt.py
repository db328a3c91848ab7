"""Turns joblib's tests of its own process backends into tests of ours.

joblib names its backends in parameter lists, in test bodies and in the source
of scripts that tests start, so the test modules' text is rewritten. Each rule
says why it is there, and must still find what it replaces.
"""

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """One rewriting of the test module.

    Attributes
    ----------
    pattern : str
        Regular expression, of which ``^`` and ``$`` match at each line.
    replacement : str
        What each match becomes.
    why : str
        What the rule is for.
    """

    pattern: str
    replacement: str
    why: str


OURS = Rule(
    r"""(["'])loky\1""",
    r"\1clutch\1",
    "what is asked of joblib's best process backend is asked of ours",
)
PARALLEL = [
    OURS,
    Rule(
        r"\A",
        "from joblib_clutch import ClutchBackend\n",
        "the tests name the backend's class",
    ),
    Rule(r"is LokyBackend", "is ClutchBackend", "the class that the name stands for"),
    Rule(
        r"joblib\._parallel_backends\.LokyBackend",
        "ClutchBackend",
        "the base class of a user's own backend",
    ),
    Rule(
        r"^from joblib import Parallel, delayed",
        r"import joblib_clutch\n\g<0>",
        "a script imports joblib_clutch to know the backend by name",
    ),
    Rule(
        r"""\((["'])clutch\1, True\)""",
        r"(\1clutch\1, False)",
        "calls from one process share loky's pool and end each other; ours do not",
    ),
    Rule(
        r"""\((["'])clutch\1, (["'])multiprocessing\2, True\)""",
        r"(\1clutch\1, \2multiprocessing\2, False)",
        "a loky worker refuses to start processes of its own; ours may",
    ),
    Rule(
        r"""\((["'])(multiprocessing|threading)\1, (["'])clutch\3, True\)""",
        r"(\1\2\1, \3clutch\3, False)",
        "loky cannot start from a worker or a thread, and warns; ours can",
    ),
    Rule(
        r"""^\s*stderr_regex=r["']LokyProcess["'],\n""",
        "",
        "looks for loky's name in the debug log of multiprocessing",
    ),
]
MEMMAPPING = [
    OURS,
    Rule(
        r"^( +)from joblib import Parallel, delayed",
        r"\1import joblib_clutch\n\g<0>",
        "a script imports joblib_clutch to know the backend by name",
    ),
    Rule(
        r"""env\[(["'])PYTHONPATH\1\] = """,
        r"\g<0>env['PYTHONPATH'] + os.pathsep + ",
        "a script must find the backend, too",
    ),
]


def adapt(source: str, rules: list[Rule]) -> str:
    """Rewrite a test module.

    Parameters
    ----------
    source : str
        joblib's own.
    rules : list of Rule
        How.

    Returns
    -------
    str
        The same tests, about ours.

    Raises
    ------
    ValueError
        A rule found nothing to replace: joblib's tests have changed.
    """
    for rule in rules:
        source, found = re.subn(rule.pattern, rule.replacement, source, flags=re.MULTILINE)
        if not found:
            raise ValueError(f"nothing matches {rule.pattern!r} ({rule.why})")
    return source
