//! A machine with control groups of version 2, made of plain files: everything
//! below a directory with a file `FAKE2`. Only for tests.
//!
//! It does what we count on: groups come with their knobs, a group that passes
//! controllers on may have no processes, a process is in one group.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const MARK: &str = "FAKE2";

const MEMORY: [(&str, &str); 7] = [
    ("memory.stat", "anon 0\ninactive_file 0\nactive_file 0"),
    ("memory.max", "max"),
    ("memory.swap.max", "max"),
    ("memory.oom.group", "0"),
    ("memory.current", "0"),
    ("memory.peak", "0"),
    ("memory.events.local", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0"),
];
const CPU: [(&str, &str); 2] = [("cpu.max", "max 100000"), ("cpu.weight", "100")];
const PIDS: [(&str, &str); 3] =
    [("pids.max", "max"), ("pids.current", "0"), ("pids.events", "max 0")];
const ALWAYS: [(&str, &str); 7] = [
    ("cgroup.procs", ""),
    ("cgroup.controllers", ""),
    ("cgroup.subtree_control", ""),
    ("cgroup.kill", ""),
    ("cgroup.freeze", "0"),
    ("cgroup.events", "populated 0\nfrozen 1"),
    ("cpu.stat", "usage_usec 0\nnr_throttled 0\nthrottled_usec 0"),
];

/// A machine whose process 1000 is in the group `/service`, as the only one.
pub(super) struct Machine {
    root: TempDir,
}

impl Machine {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let machine = Self { root };
        fs::create_dir_all(machine.path("proc/self")).unwrap();
        fs::create_dir_all(machine.path("sys/fs/cgroup")).unwrap();
        fs::write(machine.path("proc/self/cgroup"), "0::/service\n").unwrap();
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        fs::write(machine.path("proc/self/mountinfo"), mounts).unwrap();
        fs::write(machine.path(MARK), "").unwrap();
        let top = machine.path("sys/fs/cgroup");
        fs::write(top.join("cgroup.subtree_control"), "memory cpu pids io").unwrap();
        super::files::make(&machine.own()).unwrap();
        fs::write(machine.own().join("cgroup.procs"), "1000\n").unwrap();
        machine
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// The group of the agent.
    pub(super) fn own(&self) -> PathBuf {
        self.path("sys/fs/cgroup/service")
    }

    pub(super) fn read(&self, below_own: &str) -> String {
        fs::read_to_string(self.own().join(below_own)).unwrap()
    }
}

fn is_fake(path: &Path) -> bool {
    path.ancestors().any(|above| above.join(MARK).exists())
}

/// The knobs of a new group.
pub(super) fn furnish(group: &Path) {
    if !is_fake(group) {
        return;
    }
    let above = group.parent().unwrap().join("cgroup.subtree_control");
    let controllers = fs::read_to_string(above).unwrap();
    furnish_with(group, &controllers);
}

fn furnish_with(group: &Path, controllers: &str) {
    for (knob, content) in ALWAYS {
        if !group.join(knob).exists() {
            fs::write(group.join(knob), content).unwrap();
        }
    }
    fs::write(group.join("cgroup.controllers"), controllers).unwrap();
    for controller in controllers.split_whitespace() {
        let knobs: &[_] = match controller {
            "memory" => &MEMORY,
            "cpu" => &CPU,
            "pids" => &PIDS,
            _ => &[],
        };
        for (knob, content) in knobs {
            fs::write(group.join(knob), content).unwrap();
        }
    }
}

/// The files of a group that is about to go, if it may.
pub(super) fn clear(group: &Path) {
    let procs = fs::read_to_string(group.join("cgroup.procs"));
    let in_use = procs.is_ok_and(|procs| !procs.is_empty());
    if !is_fake(group) || in_use || !super::files::groups_below(group).is_empty() {
        return;
    }
    for entry in fs::read_dir(group).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// `None`: it is a real group, or an ordinary knob of a fake one.
pub(super) fn write(group: &Path, knob: &str, value: &str) -> Option<io::Result<()>> {
    if !is_fake(group) || !group.join(knob).exists() {
        return None;
    }
    Some(match knob {
        "cgroup.subtree_control" => pass_on(group, value),
        "cgroup.procs" => {
            remove_everywhere(&top(group), value);
            let path = group.join(knob);
            let others = fs::read_to_string(&path).unwrap();
            fs::write(path, format!("{others}{value}\n"))
        }
        "cgroup.kill" => fs::write(group.join("cgroup.procs"), "")
            .and_then(|()| fs::write(group.join(knob), value)),
        _ => fs::write(group.join(knob), value),
    })
}

fn pass_on(group: &Path, value: &str) -> io::Result<()> {
    if !fs::read_to_string(group.join("cgroup.procs"))?.is_empty() {
        return Err(ErrorKind::ResourceBusy.into());
    }
    let path = group.join("cgroup.subtree_control");
    let before = fs::read_to_string(&path)?;
    let (sign, controller) = value.split_at(1);
    let mut after: Vec<_> = before.split_whitespace().filter(|c| *c != controller).collect();
    if sign == "+" {
        after.push(controller);
    }
    let after = after.join(" ");
    fs::write(path, &after)?;
    for below in super::files::groups_below(group) {
        furnish_with(&below, &after);
    }
    Ok(())
}

fn top(group: &Path) -> PathBuf {
    group.ancestors().find(|above| above.join(MARK).exists()).unwrap().join("sys/fs/cgroup")
}

fn remove_everywhere(group: &Path, pid: &str) {
    if let Ok(processes) = fs::read_to_string(group.join("cgroup.procs")) {
        let others = processes.lines().filter(|line| *line != pid);
        let others = others.fold(String::new(), |all, line| all + line + "\n");
        fs::write(group.join("cgroup.procs"), others).unwrap();
    }
    for below in super::files::groups_below(group) {
        remove_everywhere(&below, pid);
    }
}
