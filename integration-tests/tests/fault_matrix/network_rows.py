"""The rows of the fault matrix about networks (N), versions (V) and clocks (C).

They are held by tests of `tests/network`, `test_resume.py`, `test_versions.py` and
`test_clocks.py` whose name or whose case begins with their number, and by those that are
named here.
"""

from rows import Row

NETWORK = {
    "N01": Row(
        "the link is cut, both ways or one, for longer than keepalive waits",
        "both sides notice; the call goes on when the link does, and nothing runs twice; when"
        " it does not come back, an error within keepalive and the session's silence limit",
    ),
    "N02": Row("the link is cut for two seconds", "the call takes that much longer"),
    "N03": Row("connections are reset", "the call goes on at once, and the log says so"),
    "N04": Row(
        "the link is so slow that a big argument takes longer than keepalive waits",
        "it is not taken for a dead one",
    ),
    "N05": Row("the link is long, loses packets and doubles them", "the call takes longer"),
    "N06": Row("the driver is killed", "what it ran is killed at once"),
    "N07": Row(
        "the driver's machine vanishes",
        "what it ran is killed once keepalive and the silence limit are over",
    ),
    "N08": Row("Ctrl-C at a driver", "it returns at once, and its workers are free"),
    "N09": Row(
        "a message, or the answer to it, is lost: the connection is cut anywhere",
        "each task runs once, by its side effects, and its outcome arrives",
    ),
    "N10": Row(
        "what was said before is said again after its end",
        "it is answered, not run; after the silence limit nobody knows it any more",
        ("test_resume_by_hand.py::test_whoever_resumes_takes_over_and_gets_what_it_lacks",),
    ),
    "N11": Row("the driver reads slowly", "the agent holds no more than joblib sends ahead"),
    "N12": Row(
        "a client with thousands of batches beside a modest one",
        "the modest one waits for two tasks at the most; nobody passes its bound",
        (
            "test_fairness.py"
            "::test_a_modest_client_waits_for_no_more_than_two_tasks_of_a_hungry_one",
            "test_fairness.py::test_an_agent_bounds_each_session_whatever_it_asks_for",
        ),
    ),
    "N13": Row("many drivers come at once, and again after a restart", "all are served"),
    "N14": Row("the agent ends a connection in the middle of a call", "no task is lost"),
}

VERSIONS = {
    "V01": Row(
        "driver and environment of different Pythons",
        "refused before anything is unpickled, naming both",
        (
            "test_environments.py::test_a_driver_of_another_python_is_told_what_there_is",
            "test_environments.py"
            "::test_the_users_error_names_the_wanted_and_the_present_environments",
        ),
    ),
    "V02": Row(
        "cloudpickle of another major; arrays of NumPy 2 where there is NumPy 1",
        "refused, naming both; what does not load says which versions there are and what to"
        " install",
        (
            "test_environments.py::test_a_driver_of_another_python_is_told_what_there_is",
            "test_environments.py"
            "::test_v02_arrays_of_another_numpy_name_both_versions_and_what_to_do",
        ),
    ),
    "V03": Row(
        "a newer driver and an older agent, and the reverse",
        "they work together within a major version; otherwise refused, naming both",
        (
            "test_environments.py"
            "::test_another_major_version_of_the_protocol_is_refused_naming_both_sides",
        ),
    ),
}

CLOCKS = {
    "C01": Row("the wall clock jumps by an hour, forth and back", "nothing comes early or late"),
    "C02": Row("agent and driver have different monotonic clocks", "nothing depends on it"),
}

ROWS = NETWORK | VERSIONS | CLOCKS
