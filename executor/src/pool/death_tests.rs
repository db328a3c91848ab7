use super::*;

const LIMIT: u64 = 512 << 20;

fn death(exit: Exit, intent: Option<Intent>) -> Death {
    Death {
        pid: Pid(7),
        exit,
        intent,
        task_index: Some(2),
        tasks: 5,
        attempt: 3,
        task_timeout: Some(Duration::from_millis(1500)),
        wall: Some(Duration::from_millis(1600)),
        cpu: Some(Duration::from_millis(100)),
        memory: MemoryEvidence::default(),
        stderr_tail: "last words".to_owned(),
    }
}

fn counted(oom_kills: u64, at_own_limit: bool) -> MemoryEvidence {
    let counters = Counters {
        peak_memory_bytes: Some(LIMIT - 1),
        oom_kills,
        at_own_limit,
        ..Counters::default()
    };
    MemoryEvidence { limit: Some(LIMIT), counters, ..MemoryEvidence::default() }
}

fn passed(resource: Resource, peak: u64) -> Intent {
    Intent::Passed(Passed { resource, breach: Breach { limit: LIMIT, peak } })
}

/// Every evidence that a memory limit could leave behind, at once.
fn everything() -> MemoryEvidence {
    let passed = Some(Breach { limit: LIMIT, peak: LIMIT + 1 });
    MemoryEvidence { soft: true, passed, killings_nearby: true, ..counted(1, true) }
}

#[test]
fn our_own_intent_is_believed_before_the_signal() {
    let intents = [
        (Intent::Stop(StopReason::Cancelled), Kind::Cancelled),
        (Intent::Stop(StopReason::SessionClosed), Kind::Cancelled),
        (Intent::Stop(StopReason::TimeLimit), Kind::TimeLimit),
        (Intent::Stop(StopReason::AgentEnding), Kind::AgentDraining),
        (Intent::Stop(StopReason::Pressure), Kind::MemoryPressure),
        (passed(Resource::Memory, LIMIT + 1), Kind::MemoryLimit),
        (passed(Resource::CpuTime, LIMIT + 1), Kind::CpuTimeLimit),
        (passed(Resource::Processes, LIMIT + 1), Kind::ProcessLimit),
        (passed(Resource::Scratch, LIMIT + 1), Kind::ScratchLimit),
        (Intent::LinkLost, Kind::WorkerCrashed),
    ];
    let exits = [Exit::Signal(libc::SIGKILL), Exit::Signal(libc::SIGSEGV), Exit::Code(1)];
    for (intent, kind) in intents {
        for (exit, memory) in exits
            .into_iter()
            .flat_map(|exit| [MemoryEvidence::default(), everything()].map(|memory| (exit, memory)))
        {
            let death = Death { memory, ..death(exit, Some(intent)) };
            assert_eq!(explain(death).kind, kind, "{intent:?}, {exit:?}, {memory:?}");
        }
    }
}

#[test]
fn a_kill_is_told_apart_by_what_the_kernel_counted() {
    let breach = Some(Breach { limit: LIMIT, peak: LIMIT - 1 });
    let looked = MemoryEvidence {
        passed: Some(Breach { limit: LIMIT, peak: LIMIT + 9 }),
        ..counted(0, false)
    };
    let nearby = MemoryEvidence { killings_nearby: true, ..MemoryEvidence::default() };
    let table = [
        (counted(1, true), Kind::MemoryLimit, breach),
        (counted(1, false), Kind::MemoryPressure, None),
        (counted(0, false), Kind::WorkerKilled, None),
        (counted(0, true), Kind::WorkerKilled, None),
        (looked, Kind::MemoryLimit, Some(Breach { limit: LIMIT, peak: LIMIT + 9 })),
        (nearby, Kind::MemoryPressure, None),
        (MemoryEvidence::default(), Kind::WorkerKilled, None),
    ];
    for (memory, kind, breach) in table {
        let failure = explain(Death { memory, ..death(KILLED, None) });
        assert_eq!((failure.kind, failure.breach), (kind, breach), "{memory:?}");
    }
}

#[test]
fn what_is_no_kill_is_the_tasks_own_doing_whatever_was_counted() {
    let exits = [Exit::Code(0), Exit::Code(1), Exit::Signal(libc::SIGSEGV)];
    for exit in exits {
        let memory = MemoryEvidence { soft: false, ..everything() };
        let failure = explain(Death { memory, ..death(exit, None) });
        assert_eq!(failure.kind, Kind::WorkerCrashed, "{exit:?}");
    }
}

#[test]
fn who_cannot_live_with_failing_allocations_died_at_the_limit() {
    let soft = |peak| {
        let counters = Counters { peak_memory_bytes: Some(peak), ..Counters::default() };
        MemoryEvidence { soft: true, limit: Some(LIMIT), counters, ..MemoryEvidence::default() }
    };
    let blas = "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.";
    let table = [
        (Exit::Code(1), blas, 0, Kind::MemoryLimit),
        (Exit::Code(1), "bye", LIMIT, Kind::WorkerCrashed),
        (Exit::Code(2), blas, LIMIT, Kind::WorkerCrashed),
        (Exit::Signal(libc::SIGSEGV), "", LIMIT - 1, Kind::MemoryLimit),
        (Exit::Signal(libc::SIGABRT), "what(): std::bad_alloc", 0, Kind::MemoryLimit),
        (Exit::Signal(libc::SIGSEGV), "", LIMIT / 2, Kind::WorkerCrashed),
    ];
    for (exit, tail, peak, kind) in table {
        let death = Death { memory: soft(peak), stderr_tail: tail.to_owned(), ..death(exit, None) };
        assert_eq!(explain(death).kind, kind, "{exit:?}, {tail}, {peak}");
    }
}

#[test]
fn a_crash_names_signal_task_attempt_and_last_words() {
    let failure = explain(death(Exit::Signal(libc::SIGSEGV), None));
    assert_eq!(failure.message, "worker 7 was killed by SIGSEGV (11) while it ran task 2 of 5");
    assert_eq!((failure.signal, failure.task_index), (Some(libc::SIGSEGV), Some(2)));
    assert_eq!((failure.attempt, failure.stderr_tail.as_str()), (3, "last words"));
    assert_eq!(failure.wall, Some(Duration::from_millis(1600)));
    assert_eq!(failure.cpu, Some(Duration::from_millis(100)));
}

#[test]
fn an_exit_with_code_0_is_a_crash_too() {
    let failure = explain(death(Exit::Code(0), None));
    assert_eq!((failure.kind, failure.exit_code), (Kind::WorkerCrashed, Some(0)));
}

#[test]
fn a_limit_is_named_with_what_was_seen() {
    let told = |intent| {
        let failure = explain(death(KILLED, Some(intent)));
        (failure.message, failure.breach)
    };
    let (message, breach) = told(Intent::Stop(StopReason::TimeLimit));
    assert_eq!(message, "task 2 ran longer than its limit of 1.5 s");
    assert_eq!(breach, Some(Breach { limit: 1_500_000_000, peak: 1_600_000_000 }));
    let (message, breach) = told(passed(Resource::Memory, LIMIT * 2));
    assert_eq!(
        message,
        "worker 7 and what it started used 1.0 GiB of memory, more than the limit of 512.0 MiB, \
         while it ran task 2 of 5"
    );
    assert_eq!(breach, Some(Breach { limit: LIMIT, peak: LIMIT * 2 }));
    let (message, _) = told(passed(Resource::Memory, LIMIT - 1));
    assert_eq!(
        message,
        "worker 7 stood still near its memory limit of 512.0 MiB while it ran task 2 of 5"
    );
    let (message, _) = told(passed(Resource::CpuTime, LIMIT * 2));
    assert_eq!(message, "task 2 used 1.07 s of CPU time, more than its limit of 0.536870912 s");
    let killed = explain(Death { memory: counted(1, true), ..death(KILLED, None) });
    assert_eq!(
        killed.message,
        "the kernel killed worker 7 at its memory limit of 512.0 MiB while it ran task 2 of 5"
    );
}

#[test]
fn the_death_of_a_worker_that_is_set_up_is_told_apart_likewise() {
    let start = |exit, memory| explain_start(Pid(7), exit, memory).kind;
    assert_eq!(start(KILLED, counted(1, true)), Kind::MemoryLimit);
    assert_eq!(start(KILLED, counted(1, false)), Kind::MemoryPressure);
    assert_eq!(start(KILLED, counted(0, false)), Kind::WorkerKilled);
    assert_eq!(start(KILLED, MemoryEvidence::default()), Kind::WorkerKilled);
    assert_eq!(start(Exit::Code(1), counted(1, true)), Kind::WorkerStartFailed);
    let breach = Breach { limit: 64, peak: 65 };
    let passed = Passed { resource: Resource::Processes, breach };
    let failure = explain_start_limit(Pid(7), passed, MemoryEvidence::default());
    assert_eq!((failure.kind, failure.breach), (Kind::ProcessLimit, Some(breach)));
    assert_eq!(
        failure.message,
        "worker 7 had 65 processes and threads, more than the limit of 64, while it was set up"
    );
}

#[test]
fn a_worker_that_lost_processes_at_its_limit_passed_it_however_it_ended() {
    let mut memory = counted(2, true);
    memory.counters.kills_at_limit = 2;
    let intent = passed(Resource::Memory, LIMIT - 1);
    for (exit, intent) in [(KILLED, Some(intent)), (Exit::Code(1), None)] {
        let failure = explain(Death { memory, ..death(exit, intent) });
        assert_eq!(failure.kind, Kind::MemoryLimit);
        assert_eq!(failure.breach, Some(Breach { limit: LIMIT, peak: LIMIT - 1 }));
        assert_eq!(
            failure.message,
            "the kernel killed 2 processes of worker 7 at its memory limit of 512.0 MiB while it \
             ran task 2 of 5"
        );
    }
}

#[test]
fn bytes_are_told_in_the_unit_of_the_limit() {
    let told = [(1 << 20, 1), (1 << 30, 3 << 30), (256_000_000, 256_000_000), (5, 1_000_000)]
        .map(|(count, limit)| bytes(count, limit));
    assert_eq!(told, ["1.0 MiB", "1.0 GiB", "256.0 MB", "0.0 kB"]);
    assert_eq!(bytes(2_500_000_000, 2_000_000_000), "2.5 GB");
}
