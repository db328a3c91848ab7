//! What is found on machines made of files; the real one is in `real_tests`.

use std::fs;

use super::*;
use crate::limits::Mechanism;
use crate::limits::cgroup::fake::Machine;
use crate::limits::cgroup::files::own_processes;

const NAME: &str = "clutch-1000-1";
const PID: Pid = Pid(1000);

fn probed(machine: &Machine) -> Probed {
    probe(machine.root(), NAME.to_owned(), PID)
}

#[test]
fn alone_in_its_group_the_agent_steps_down_and_back_up() {
    let machine = Machine::new();
    let Probed { groups, notes } = probed(&machine);
    assert_eq!(notes, Vec::<String>::new());
    let v2 = Some(Mechanism::CgroupV2);
    assert_eq!([groups.memory_mechanism(), groups.cpu_mechanism()], [v2; 2]);
    assert_eq!([groups.process_mechanism(), groups.kill_mechanism()], [v2; 2]);
    assert!(groups.counts_swap() && groups.dies_together());
    assert_eq!(own_processes(&machine.own().join("agent")).unwrap(), [PID]);
    assert_eq!(machine.read("cgroup.procs"), "");
    assert_eq!(machine.read("cgroup.subtree_control"), "memory cpu pids");
    assert!(!machine.own().join(NAME).exists(), "a probe is left");

    groups.close();
    assert_eq!(machine.read("cgroup.procs"), "1000\n");
    assert_eq!(machine.read("cgroup.subtree_control"), "");
    assert!(!machine.own().join("agent").exists());
}

#[test]
fn others_are_never_moved() {
    let machine = Machine::new();
    fs::write(machine.own().join("cgroup.procs"), "1000\n1001\n").unwrap();
    let Probed { groups, notes } = probed(&machine);
    assert_eq!((groups.memory_mechanism(), groups.cpu_mechanism()), (None, None));
    // Killing all of a group takes no controller.
    assert_eq!(groups.kill_mechanism(), Some(Mechanism::CgroupV2));
    assert_eq!(machine.read("cgroup.procs"), "1000\n1001\n");
    assert!(notes.iter().any(|note| note.contains("1 others are there")), "{notes:?}");
    assert!(!machine.own().join("agent").exists());
}

#[test]
fn a_controller_that_is_not_delegated_is_named() {
    let machine = Machine::new();
    fs::write(machine.own().join("cgroup.controllers"), "memory pids").unwrap();
    let Probed { groups, notes } = probed(&machine);
    assert_eq!(groups.memory_mechanism(), Some(Mechanism::CgroupV2));
    assert_eq!(groups.cpu_mechanism(), None);
    assert!(notes.iter().any(|note| note.contains("no `cpu` in")), "{notes:?}");
}

#[test]
fn without_any_controller_the_agent_stays_where_it_is() {
    let machine = Machine::new();
    fs::write(machine.own().join("cgroup.controllers"), "io").unwrap();
    let groups = probed(&machine).groups;
    assert!(groups.leaf.is_none());
    assert_eq!(machine.read("cgroup.procs"), "1000\n");
}

#[test]
fn a_machine_without_groups_has_none_and_says_so() {
    let machine = Machine::new();
    fs::write(machine.path("proc/self/mountinfo"), "").unwrap();
    let Probed { groups, notes } = probed(&machine);
    assert_eq!(groups.kill_mechanism(), None);
    assert_eq!(notes, ["control groups: none are mounted here"]);
    fs::remove_file(machine.path("proc/self/cgroup")).unwrap();
    assert_eq!(probed(&machine).notes.len(), 1);
}

#[test]
fn a_ceiling_and_a_weight_are_on_the_group_of_all_workers() {
    let machine = Machine::new();
    let mut groups = probed(&machine).groups;
    assert_eq!(groups.memory_together(), None);
    groups.set_ceiling(4 << 30).unwrap();
    groups.set_weight(0.5).unwrap();
    let knob = |knob: &str| machine.read(&format!("{NAME}/{knob}"));
    assert_eq!(knob("memory.max"), (4_u64 << 30).to_string());
    assert_eq!(knob("memory.oom.group"), "0");
    assert_eq!(knob("cpu.weight"), "50");
    groups.place_zygote(Pid(2000)).unwrap();
    assert_eq!(knob("pool/cgroup.procs"), "2000\n");
    let all = machine.own().join(NAME);
    fs::write(all.join("memory.current"), "77").unwrap();
    fs::write(all.join("memory.stat"), "anon 40\ninactive_file 20\nactive_file 10\n").unwrap();
    assert_eq!(groups.memory_together(), Some(47));
}

#[test]
fn what_dead_agents_left_is_removed_at_the_start_and_nothing_else() {
    let machine = Machine::new();
    // No process has this number: it is above the kernel's largest.
    let left = |name: &str| {
        let group = machine.own().join(name);
        make(&group).unwrap();
        make(&group.join("w1")).unwrap();
        group
    };
    let dead = left("clutch-4194999-5");
    let foreign = ["clutch-4194999", "clutch-5-x", "other", "w1"].map(left);
    // Its processes are in another namespace, so its name says nothing here.
    let elsewhere = left("clutch-4194999-6");
    fs::write(elsewhere.join("w1/cgroup.procs"), "0\n").unwrap();
    probed(&machine);
    assert!(!dead.exists());
    assert!(elsewhere.exists());
    assert!(foreign.iter().all(|group| group.join("w1").exists()));
}
