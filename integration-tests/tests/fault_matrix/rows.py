"""The rows of the fault matrix, and the tests that hold them.

Rows that begin with T are about how tasks end and what they leave, L about limits, A
about the agent and its zygotes, S about who means harm: strangers, workers, blobs; V about
different environments, X about long runs. A row is held by the tests of this folder whose name or whose case begins with its
number, and by those that are named here. Where we promise something else than others
would expect, the row says so.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One fault.

    Parameters
    ----------
    fault : str
        What is done.
    promise : str
        What comes of it, besides what `support.oracle` checks.
    elsewhere : tuple of str
        Tests outside of this folder that hold it, as ``file.py::test``, or of the agent's
        own, as ``executor/src/file.rs::test``.
    untested : str
        Why no test can; empty when some do.
    """

    fault: str
    promise: str
    elsewhere: tuple[str, ...] = ()
    untested: str = ""


def crash_matrix(*cases: str) -> tuple[str, ...]:
    """Name cases of the crash matrix."""
    return tuple(f"test_crash_matrix.py::test_a_task_that[{case}]" for case in cases)


TASKS = {
    "T01": Row(
        "raises, with a cause, a note and local variables",
        "its own exception, and the worker's traceback with the cause",
        crash_matrix("raises"),
    ),
    "T02": Row("raises a class that only the worker has", "RemoteError with its name and text"),
    "T03": Row(
        "returns what does not pickle, in the middle of a batch",
        "ResultPickleError that names the task; joblib takes a batch whole, so its other"
        " results are not delivered",
        crash_matrix("result does not pickle"),
    ),
    "T04": Row(
        "raises what does not pickle",
        "RemoteError; the worker lives on",
        crash_matrix("raises what does not pickle", "raises with an odd constructor"),
    ),
    "T05": Row(
        "returns what does not load at the driver",
        "ResultUnpickleError with its cause",
        crash_matrix("result does not load at the driver"),
    ),
    "T06": Row(
        "raises what is below Exception",
        "the same at the driver; sys.exit becomes TaskExitedError",
        crash_matrix("sys.exit(3)", "KeyboardInterrupt", "BaseException", "StopIteration"),
    ),
    "T07": Row(
        "recurses for ever",
        "RecursionError with a text of bounded length",
        crash_matrix("recurses for ever"),
    ),
    "T08": Row(
        "crashes: a signal, a broken heap",
        "WorkerCrashedError with signal and stack",
        crash_matrix("segfault", "abort"),
    ),
    "T09": Row(
        "ends its process, also with code 0",
        "WorkerCrashedError with the code, never a success",
        crash_matrix("os._exit(0)", "os._exit(7)"),
    ),
    "T10": Row(
        "has its worker killed by somebody else",
        "runs again, at most twice, and the report says so; with retries=0 WorkerKilledError",
        (*crash_matrix("SIGKILL"), "test_prefetch.py::test_what_a_killed_worker_had_not_begun"),
    ),
    "T11": Row("ends, and its worker dies before that was heard", "the result counts"),
    "T12": Row(
        "crashes in the middle of a batch",
        "the task is named; with retries what was saved is not run again, and joblib gets"
        " the whole batch",
        ("test_crash_matrix.py::test_the_task_of_a_large_batch_that_crashed_is_named",),
    ),
    "T13": Row("kills each of its workers", "PoisonousBatchError after the second of them"),
    "T14": Row("floods its output", "nobody waits; the end of it is kept"),
    "T15": Row(
        "closes descriptors that are not its own",
        "WorkerCrashedError for this batch only",
        (
            *crash_matrix("closes all descriptors"),
            "test_crash_matrix.py::test_a_task_may_close_its_standard_output",
        ),
    ),
    "T16": Row(
        "changes its process: directory, variables, handlers, limits, modules, streams",
        "the next task finds it as it was, or another worker; resource limits and priority are"
        " looked at every 50 ms only; random numbers go on",
    ),
    "T17": Row("leaves a thread", "a warning, and its worker is replaced"),
    "T18": Row(
        "leaves processes, in sessions of their own or orphaned",
        "they are killed, and the report counts them",
    ),
    "T19": Row(
        "uses multiprocessing, or joblib",
        "works",
        ("test_joblib_features.py::test_nested_calls_end",),
    ),
    "T20": Row("forks without end", "ProcessLimitError, and all of it is gone"),
    "T21": Row("leaves files open", "its worker is replaced now and then"),
    "T22": Row("leaves zombies", "none after it"),
    "T23": Row(
        "leaves temporary files",
        "the scratch directory is a worker's, and goes with it; links are not followed",
    ),
    "T24": Row(
        "returns nothing, little, or much",
        "every byte; the agent's memory is bounded",
        (
            "test_driver_code.py::test_arguments_and_results_of_any_size_arrive_whole",
            "test_big_data_bounds.py::test_results_that_have_no_room_in_memory_arrive",
        ),
    ),
}

LIMITS = {
    "L01": Row("memory over its limit", "MemoryLimitError with limit and peak, not run again"),
    "L02": Row("memory over a soft limit", "MemoryError in the task; its worker is replaced"),
    "L03": Row("BLAS in many threads at a soft limit", "ends, as memory, and never hangs"),
    "L04": Row("memory in a child over the limit", "the same, whatever the task makes of it"),
    "L05": Row("mapped arguments larger than the limit", "are nobody's memory"),
    "L06": Row("the same as L01 without control groups", "a little later"),
    "L07": Row(
        "memory that grows from task to task",
        "workers are replaced",
        ("test_pool.py::test_a_worker_that_grew_is_replaced_between_batches",),
    ),
    "L08": Row("limit, SIGKILL, time, crash, cancelled call", "told apart every time"),
    "L09": Row(
        "all workers together over the agent's ceiling",
        "the youngest batch makes way and runs later; the agent is never the victim",
    ),
    "L10": Row("a CPU limit", "is held, and how long it held tasks back is told"),
    "L11": Row("CPU time over its limit, in threads", "CpuTimeLimitError"),
    "L12": Row(
        "a loop in Python over its time",
        "TimeLimitError with the stack",
        ("test_crash_matrix.py::test_a_task_over_its_time_limit_that",),
    ),
    "L13": Row(
        "a loop in C that holds the interpreter over its time",
        "TimeLimitError with the stack",
        ("test_crash_matrix.py::test_a_task_over_its_time_limit_that",),
    ),
    "L14": Row("a task that swallows every exception and blocks every signal", "the same"),
    "L15": Row(
        "a long wait for a worker",
        "does not count as running",
        ("test_crash_matrix.py::test_a_time_limit_is_for_each_task_not_for_the_call",),
    ),
    "L16": Row(
        "a full disk for big data",
        "an error that names it, and no file",
        ("test_big_data_bounds.py::test_a_full_disk_is_an_error_that_names_it",),
    ),
    "L17": Row(
        "no room for a blob",
        "refused before it is written",
        ("test_big_data_bounds.py::test_an_argument_over_all_bounds_is_refused_with_the_bounds",),
    ),
    "L18": Row("too many threads or files", "an error in the task"),
    "L19": Row(
        "no control groups, or no right to them; more asked for than the agent allows",
        "the agent says what holds limits, and they are held",
    ),
    "L20": Row(
        "groups and scratch directories of a killed agent",
        "removed at the next start, and nobody else's",
    ),
}

AGENT = {
    "A01": Row(
        "the agent is killed",
        "workers and zygotes go; the driver is told at once, and submits again",
        (
            "test_interrupts.py::test_nothing_survives_an_agent_that_is_killed",
            "test_contract.py::test_a_private_agent_killed_in_the_middle_is_named_and_replaced",
        ),
    ),
    "A02": Row(
        "a handler of the agent panics",
        "its request fails, and nothing else",
        elsewhere=("executor/src/service/server.rs::a_panic_fails_its_request_and_nothing_else",),
    ),
    "A03": Row(
        "a zygote is killed",
        "running tasks go on; another zygote takes its place",
        ("test_zygotes.py::test_a_zygote_that_is_killed_is_replaced_and_running_tasks_go_on",),
    ),
    "A04": Row(
        "a warm module raises, or crashes",
        "told, and not tried for ever",
        (
            "test_zygotes.py::test_a_warm_module_that_cannot_be_imported_is_told_and_skipped",
            "test_zygotes.py::test_a_zygote_that_did_not_start_is_tried_again",
        ),
    ),
    "A05": Row(
        "a warm module starts threads",
        "the zygote does not fork with them",
        ("test_zygotes.py::test_a_warm_module_that_starts_a_thread_costs_the_warmth",),
    ),
    "A06": Row("forks fail", "tried again for a moment; then WorkerStartError"),
    "A07": Row(
        "SIGTERM while tasks run and others wait",
        "what runs ends, what waits comes back as AgentDrainingError",
        ("test_interrupts.py::test_sigterm_lets_what_runs_finish_and_takes_nothing_new",),
    ),
    "A08": Row(
        "SIGTERM while a task hangs",
        "killed at the deadline, and the exit code tells",
        ("test_interrupts.py::test_what_runs_at_the_drain_deadline_is_killed",),
    ),
    "A09": Row(
        "two agents at one address",
        "the second is refused",
        (
            "test_agent_program.py"
            "::test_a_second_agent_at_the_same_path_is_refused_and_the_first_unharmed",
        ),
    ),
    "A10": Row("no descriptors left for connections", "no spinning; sessions go on"),
    "A11": Row(
        "the parent of a private agent dies",
        "so does the agent, with all that is its own",
        ("test_interrupts.py::test_nothing_survives_a_driver_that_is_killed",),
    ),
    "A12": Row("threads of the runtime end", "nobody dies with them"),
    "A13": Row("the log cannot be written", "the agent goes on"),
}

HARM = {
    "S10": Row(
        "a blob is named by a path or half a digest", "refused before anything is looked up"
    ),
    "S11": Row(
        "an upload, or another agent, sends something else than it named",
        "it is never present, and its room is given back",
    ),
    "S12": Row(
        "the bytes of a blob on disk change",
        "its file has no name, so only who may trace the agent can; what has a digest is checked"
        " when it is used again or given to another agent, and then has no name any more",
    ),
    "S13": Row(
        "a task writes to a blob, cuts it, lets it grow",
        "refused",
        (
            "test_blobs.py::test_workers_write_where_they_may_and_nowhere_else",
            "test_data_line.py::test_what_is_filled_and_committed_cannot_change_any_more",
        ),
    ),
    "S14": Row(
        "a task looks into its agent's or another session's processes, or reads root's files",
        "refused where workers are another user than the agent, as root's on the network are",
    ),
    "S15": Row(
        "a task of an agent with a sandbox signals or looks into the agent, a zygote or another"
        " worker, connects to a socket of theirs, binds or connects over TCP",
        "PermissionError in the task; its own children stay its own; an agent whose kernel cannot"
        " do that does not start, exit code 78",
    ),
    "S17": Row(
        "every decoder of foreign bytes reads nonsense: `make fuzz`",
        "no panic, no memory without bound",
        (
            "executor/src/service/fuzzing.rs::conversation",
            "executor/src/service/fuzzing.rs::data_line",
            "executor/src/pool/worker/fuzzing.rs::task_line",
            "executor/src/pool/worker/fuzzing.rs::control_line",
            "python-shim/client/src/fuzzing.rs::conversation",
            "python-shim/client/src/fuzzing.rs::data_line",
        ),
    ),
    "S18": Row(
        "more batches, sessions, results or blobs than a session may have",
        "QuotaExceededError that names the bound; others are not affected",
        ("test_data_line.py::test_an_offer_that_does_not_fit_is_refused_with_the_bounds",),
    ),
}

VERSIONS = {
    "V04": Row(
        "a module is missing on a worker",
        "the error names the environment, the machine, and how to ship it",
        ("test_code.py::test_v04_a_missing_module_names_the_environment_and_the_way_to_ship_it",),
    ),
}


def refusals(*cases: str) -> tuple[str, ...]:
    """Name cases of those who do not authenticate."""
    test = "test_whoever_does_not_authenticate_is_disconnected_and_logged_once"
    return tuple(f"test_refusals.py::{test}[{case}]" for case in cases)


STRANGERS = {
    "S01": Row(
        "random bytes, HTTP/1, an SSH banner or plain HTTP/2 on a port with TLS",
        "closed at once, logged once with the address; nobody else notices",
        refusals("random bytes", "HTTP/1", "an SSH banner", "plain HTTP/2", "HTTP/1 in TLS"),
    ),
    "S02": Row(
        "no bytes, half a handshake, half a preface, a preface only; 300 of them at once",
        "closed within 5 s; who authenticates is served at once",
        (
            *refusals("half a handshake", "half a preface", "a preface only"),
            "test_refusals.py::test_of_many_that_say_nothing_the_oldest_make_way",
        ),
    ),
    "S03": Row(
        "headers without end, huge or slow headers, answers that are not read",
        "closed within 5 s; the agent grows by less than 20 MB",
        refusals(
            "headers without end", "huge headers", "slow headers", "answers that are not read"
        ),
    ),
    "S04": Row(
        "20,000 requests that are taken back at once",
        "closed; the agent grows by less than 20 MB",
        (
            *refusals("rapid reset"),
            "test_refusals.py::test_more_streams_than_a_connection_may_have_are_refused",
        ),
    ),
    "S05": Row(
        "a length of 4 GiB, a message of 5 MiB",
        "OUT_OF_RANGE; nothing of that size is reserved",
        (
            *refusals("a long message without a token"),
            "test_refusals.py::test_who_has_the_token_is_held_to_bounds_too",
            "test_refusals.py::test_a_length_of_four_gigabytes_reserves_nothing",
        ),
    ),
    "S06": Row(
        "no token, a short one, a wrong one, a thousand guesses",
        "UNAUTHENTICATED for every RPC without a word more; after eight the connection is closed",
        (
            *refusals("guessed tokens"),
            "test_refusals.py::test_no_rpc_is_answered_without_the_token",
            "test_cluster_access.py::test_a_wrong_token_is_told_at_once",
            "executor/src/service/gate.rs::only_grpc_with_the_one_token_passes",
        ),
    ),
    "S07": Row(
        "another authority, a certificate that has expired, a driver's one to serve with",
        "AccessDeniedError at once, with the reason",
        (
            "test_cluster_access.py::test_another_clusters_file_does_not_do",
            "test_cluster_access.py::test_certificates_of_an_own_authority_do_until_they_expire",
            "test_cluster_access.py::"
            "test_drivers_work_with_their_copy_and_cannot_pass_for_an_agent",
        ),
    ),
    "S08": Row(
        "another user calls on a Unix socket",
        "refused, unless in the group that may; abstract sockets too",
        ("test_local_access.py::test_members_of_the_group_are_let_in_and_nobody_else",),
    ),
    "S09": Row(
        "an agent is to listen where others reach it, without secrets",
        "it does not start, exit code 78, and names what is missing; listening sockets are those"
        " that were asked for",
        (
            "test_cluster_access.py::"
            "test_an_agent_without_the_secrets_that_it_needs_does_not_start",
            "test_cluster_access.py::test_an_agent_listens_where_it_was_told_and_nowhere_else",
        ),
    ),
    "S16": Row(
        "somebody looks for the secrets in logs, command lines and environments",
        "they are in the access file only",
        (
            "test_cluster_access.py::test_secrets_are_nowhere_but_in_the_file",
            "test_cluster_access.py::test_zygotes_and_workers_have_no_connection_of_the_agents",
        ),
    ),
    "S19": Row(
        "a web page in a browser asks, by Origin or gRPC-web",
        "refused, also with the token",
        ("test_refusals.py::test_a_web_page_is_refused_even_with_the_token",),
    ),
}

LONG_RUNS = {
    "X01": Row(
        "workers, zygotes and agents are killed at random",
        "every result is right, none missing, none doubled",
        ("test_chaos.py::test_every_result_is_right_whoever_dies",),
    ),
    "X02": Row(
        "very many small tasks",
        "descriptors, memory and blobs do not grow",
        (
            "test_pool.py::test_50_000_tasks_through_one_session_leave_no_trace_in_the_agent",
            "test_blobs.py::test_thousands_of_blobs_leave_no_descriptor_and_no_memory",
        ),
    ),
}

ROWS = TASKS | LIMITS | AGENT | HARM | STRANGERS | VERSIONS | LONG_RUNS
