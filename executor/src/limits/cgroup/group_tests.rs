//! A worker's group on a machine made of files.

use std::fs;

use super::*;
use crate::limits::cgroup::fake::Machine;
use crate::limits::cgroup::probe;

const NAME: &str = "clutch-1000-1";

fn groups(machine: &Machine) -> Groups {
    probe(machine.root(), NAME.to_owned(), Pid(1000)).groups
}

fn all_limits() -> Limits {
    Limits {
        memory_bytes: Some(1 << 29),
        cpus: Some(1.5),
        processes: Some(64),
        ..Limits::default()
    }
}

#[test]
fn limits_are_set_before_a_worker_comes_and_nothing_is_left_after_it() {
    let machine = Machine::new();
    let groups = groups(&machine);
    let group = Group::create(&groups, WorkerId(7), &all_limits()).unwrap().unwrap();
    let knob = |knob: &str| machine.read(&format!("{NAME}/w7/{knob}"));
    assert_eq!(knob("memory.max"), (1 << 29).to_string());
    assert_eq!(knob("memory.swap.max"), "0");
    assert_eq!(knob("memory.oom.group"), "1");
    assert_eq!(knob("cpu.max"), "150000 100000");
    assert_eq!(knob("pids.max"), "64");
    group.add(Pid(2000)).unwrap();
    assert_eq!(group.processes().unwrap(), [Pid(2000)]);
    group.kill_all().unwrap();
    assert_eq!(knob("cgroup.kill"), "1");
    drop(group);
    assert!(!machine.own().join(NAME).join("w7").exists());
}

#[test]
fn readings_are_told_in_bytes_and_nanoseconds() {
    let machine = Machine::new();
    let groups = groups(&machine);
    let group = Group::create(&groups, WorkerId(7), &all_limits()).unwrap().unwrap();
    assert_eq!(
        group.usage().unwrap(),
        GroupUsage {
            memory_bytes: Some(0),
            peak_memory_bytes: Some(0),
            cpu_nanoseconds: Some(0),
            processes: Some(0),
            ..GroupUsage::default()
        }
    );
    let set = |knob: &str, content: &str| {
        fs::write(machine.own().join(NAME).join("w7").join(knob), content).unwrap();
    };
    set("memory.current", "5\n");
    set("memory.peak", "536870912\n");
    set("memory.events.local", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 3\noom_group_kill 1\n");
    set("cpu.stat", "usage_usec 12\nuser_usec 4\nthrottled_usec 34\n");
    set("pids.current", "2\n");
    set("pids.events", "max 6\n");
    assert_eq!(
        group.usage().unwrap(),
        GroupUsage {
            memory_bytes: Some(5),
            peak_memory_bytes: Some(1 << 29),
            cpu_nanoseconds: Some(12_000),
            processes: Some(2),
            oom_kills: 3,
            at_own_limit: true,
            throttled_nanoseconds: 34_000,
            refused_forks: 6,
        }
    );
    // Somebody else's limit: of the group above, for example.
    set("memory.events.local", "max 0\noom 0\noom_kill 1\n");
    let usage = group.usage().unwrap();
    assert_eq!((usage.oom_kills, usage.at_own_limit), (1, false));
    set("memory.current", "much\n");
    let error = group.usage().unwrap_err().to_string();
    assert!(error.contains("memory.current` is not understood: `much`"), "{error}");
}

#[test]
fn a_worker_without_such_limits_has_no_group() {
    let machine = Machine::new();
    let groups = groups(&machine);
    let limits = Limits { open_files: Some(10), scratch_bytes: Some(10), ..Limits::default() };
    assert!(Group::create(&groups, WorkerId(7), &limits).unwrap().is_none());
    let none = Groups::default();
    assert!(Group::create(&none, WorkerId(7), &all_limits()).unwrap().is_none());
    assert!(!machine.own().join(NAME).exists());
}

#[test]
fn a_limit_that_is_refused_leaves_no_group() {
    let machine = Machine::new();
    let groups = groups(&machine);
    fs::create_dir(machine.own().join(NAME)).unwrap();
    // A group without knobs.
    let refused = Group::create(&groups, WorkerId(7), &all_limits()).unwrap_err().to_string();
    assert!(refused.contains(NAME), "{refused}");
    assert!(!machine.own().join(NAME).join("w7").exists());
}

#[test]
fn a_group_that_a_task_made_below_goes_with_it() {
    let machine = Machine::new();
    let groups = groups(&machine);
    let group = Group::create(&groups, WorkerId(7), &all_limits()).unwrap().unwrap();
    let below = machine.own().join(NAME).join("w7/mine");
    make(&below).unwrap();
    fs::write(below.join("cgroup.procs"), "3000\n").unwrap();
    assert_eq!(group.processes().unwrap(), [Pid(3000)]);
    fs::write(below.join("cgroup.procs"), "").unwrap();
    drop(group);
    assert!(!machine.own().join(NAME).join("w7").exists());
}

#[test]
fn memory_is_counted_without_a_limit_where_that_is_free() {
    let machine = Machine::new();
    let groups = groups(&machine);
    let limits = Limits { processes: Some(64), ..Limits::default() };
    let group = Group::create(&groups, WorkerId(7), &limits).unwrap().unwrap();
    assert_eq!(group.usage().unwrap().memory_bytes, Some(0));
    assert_eq!(machine.read(&format!("{NAME}/w7/memory.max")), "max");
    assert_eq!(machine.read(&format!("{NAME}/w7/memory.oom.group")), "1");
}
