//! The kernel of this machine. Each test is skipped, with the reason on standard
//! error, where groups of that kind cannot be made.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::files::{add, make, processes};
use super::killer::{Killer, Way};
use super::knobs::{Version, limit_processes, process_limit, processes_counted};
use super::parent::Groups;
use super::place::Place;
use super::removal::remove_within;
use super::{Group, GroupUsage, probe, stale};
use crate::identifiers::{Pid, WorkerId};
use crate::limits::instance::Instance;
use crate::limits::{Limits, Mechanism};

/// All of them use groups of the same name: this process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A worker's number, never used again.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

struct Real {
    groups: Groups,
    _alone: MutexGuard<'static, ()>,
}

impl Real {
    /// `None`: said why.
    fn with(what: &str, is_there: impl Fn(&Groups) -> bool) -> Option<Self> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let this = Instance::this().unwrap().to_string();
        let probed = probe(Path::new("/"), this, Pid(std::process::id()));
        if is_there(&probed.groups) {
            let real = Self { groups: probed.groups, _alone: alone };
            real.bound();
            return Some(real);
        }
        writeln!(std::io::stderr(), "skipped, no {what} here: {:?}", probed.notes).unwrap();
        None
    }

    /// Whatever a test does, it does not take the machine with it.
    fn bound(&self) {
        if let Some(place) = &self.groups.processes {
            let parent = place.open(&self.groups.name).unwrap();
            limit_processes(&parent, MOST).unwrap();
            assert_eq!(process_limit(&parent).unwrap(), MOST);
        }
    }

    fn group(&self, limits: Limits) -> Group {
        Group::create(&self.groups, WorkerId(number()), &limits).unwrap().unwrap()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.groups.close();
        for place in self.groups.places() {
            assert!(!place.parent(&self.groups.name).exists() || std::thread::panicking());
        }
    }
}

/// A shell that waits until it is told to run this.
fn shell(script: &str) -> Child {
    let script = format!("read go; {script}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn go(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
}

fn pid(child: &Child) -> Pid {
    Pid(child.id())
}

/// Waits, but not for ever.
fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "waited too long");
        std::thread::yield_now();
    }
}

fn signal(child: &mut Child) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    child.wait().unwrap().signal()
}

fn used(group: &Group, is_so: impl Fn(&GroupUsage) -> bool) -> GroupUsage {
    until(|| is_so(&group.usage().unwrap()));
    group.usage().unwrap()
}

const HOG: &str = "exec tail /dev/zero";
/// Forks as long as it may, and goes on trying.
const BOMB: &str = "exec perl -e 'while (1) { fork }'";
/// Processes and threads of one test.
const MOST: u64 = 64;
/// Three processes that wait, and the shell.
const FAMILY: &str = "sleep 1000 & sleep 1000 & setsid sleep 1000 & wait";

#[test]
fn a_process_over_its_own_limit_is_killed_and_counted() {
    let Some(real) = Real::with("memory", |groups| groups.memory.is_some()) else { return };
    let bytes = 32 << 20;
    let group = real.group(Limits { memory_bytes: Some(bytes), ..Limits::default() });
    let mut hog = shell(HOG);
    group.add(pid(&hog)).unwrap();
    assert_eq!(group.usage().unwrap().oom_kills, 0);
    go(&mut hog);
    assert_eq!(signal(&mut hog), Some(9));
    let usage = group.usage().unwrap();
    assert!(usage.oom_kills > 0 && usage.at_own_limit, "{usage:?}");
    let peak = usage.peak_memory_bytes.unwrap_or(bytes);
    assert!(peak > bytes / 8 * 7 && peak <= bytes, "{usage:?}");
}

#[test]
fn a_ceiling_that_is_reached_is_nobodys_own_limit() {
    let Some(mut real) = Real::with("memory", |groups| groups.memory.is_some()) else { return };
    real.groups.set_ceiling(32 << 20).unwrap();
    let group = real.group(Limits { memory_bytes: Some(1 << 30), ..Limits::default() });
    let mut hog = shell(HOG);
    real.groups.place_zygote(pid(&hog)).unwrap();
    group.add(pid(&hog)).unwrap();
    go(&mut hog);
    assert_eq!(signal(&mut hog), Some(9));
    let usage = group.usage().unwrap();
    assert!(usage.oom_kills > 0 && !usage.at_own_limit, "{usage:?}");
    assert!(real.groups.memory_together().is_some_and(|bytes| bytes < 32 << 20));
}

#[test]
fn processes_over_the_limit_are_refused_and_counted() {
    let Some(real) = Real::with("pids", |groups| groups.processes.is_some()) else { return };
    let group = real.group(Limits { processes: Some(3), ..Limits::default() });
    let mut parent = shell("while :; do sleep 1000 & done");
    group.add(pid(&parent)).unwrap();
    go(&mut parent);
    let usage = used(&group, |usage| usage.refused_forks > 0);
    assert!(usage.processes.is_some_and(|count| count <= 3), "{usage:?}");
    group.kill_all().unwrap();
    // A shell gives up when it may not fork.
    parent.wait().unwrap();
    until(|| group.processes().unwrap().is_empty());
}

#[test]
fn a_quota_of_cpus_holds_back_and_is_counted() {
    let Some(real) = Real::with("cpu", |groups| groups.cpus.is_some()) else { return };
    let group = real.group(Limits { cpus: Some(0.1), ..Limits::default() });
    let mut busy = shell("while :; do :; done");
    group.add(pid(&busy)).unwrap();
    go(&mut busy);
    let usage = used(&group, |usage| usage.throttled_nanoseconds > 0);
    // Where CPU time is counted besides, some was used before that.
    assert!(usage.cpu_nanoseconds.is_none_or(|used| used > 0), "{usage:?}");
    drop(group);
    assert_eq!(signal(&mut busy), Some(9));
}

/// The ways to kill that this machine has, each with a place for it.
fn ways(groups: &Groups) -> Vec<(Place, Way)> {
    let mut ways: Vec<_> = groups.kill.clone().into_iter().collect();
    if let Some((place, Way::Kill)) = ways.first().cloned() {
        ways.push((place, Way::FreezeV2));
    }
    let own = |name: &str| {
        let found = super::hierarchies::Hierarchies::read(Path::new("/")).unwrap();
        let found = found.v1(if name == "freezer" {
            super::hierarchies::Controller::Freezer
        } else {
            super::hierarchies::Controller::Pids
        });
        found.map(|own| Place::new(Version::V1, own.to_owned()))
    };
    ways.extend(own("freezer").map(|place| (place, Way::FreezeV1)));
    ways.extend(own("pids").map(|place| (place, Way::RefuseForks)));
    ways
}

#[test]
fn a_fork_bomb_is_killed_in_every_way() {
    let Some(real) = Real::with("pids", |groups| groups.processes.is_some()) else { return };
    let all = real.groups.processes.as_ref().unwrap().parent(&real.groups.name);
    for (place, way) in ways(&real.groups) {
        let (directory, killer) = killer(&real.groups, &place, way);
        let mut bomb = shell(BOMB);
        add(&all, pid(&bomb)).unwrap();
        add(&directory, pid(&bomb)).unwrap();
        // Not without the bound that `all` has.
        assert!(processes(&all).unwrap().contains(&pid(&bomb)));
        go(&mut bomb);
        until(|| processes_counted(&all).unwrap() == MOST);
        killer.kill_all().unwrap();
        assert_eq!(signal(&mut bomb), Some(9), "{way:?}");
        until(|| processes(&directory).unwrap().is_empty());
        remove(&real.groups, &place);
        real.bound();
    }
}

#[test]
fn the_worker_is_spared_in_every_way() {
    let Some(real) = Real::with("groups to kill by", |groups| groups.kill.is_some()) else {
        return;
    };
    for (place, way) in ways(&real.groups) {
        let (directory, killer) = killer(&real.groups, &place, way);
        let mut worker = shell(&format!("{FAMILY}; sleep 1000"));
        add(&directory, pid(&worker)).unwrap();
        go(&mut worker);
        until(|| processes(&directory).unwrap().len() == 4);
        let keep = pid(&worker);
        assert_eq!(killer.kill_those(|pid| pid != keep).unwrap(), 3, "{way:?}");
        // It goes on, and starts the next one.
        until(|| processes(&directory).unwrap().len() == 2);
        killer.kill_all().unwrap();
        assert_eq!(signal(&mut worker), Some(9), "{way:?}");
        remove(&real.groups, &place);
    }
}

/// Groups that an agent here would not make are not removed at its end.
fn remove(groups: &Groups, place: &Place) {
    assert!(remove_within(&place.parent(&groups.name), Duration::from_secs(10)));
}

fn killer(groups: &Groups, place: &Place, way: Way) -> (PathBuf, Killer) {
    let directory = place.open(&groups.name).unwrap().join(format!("w{}", number()));
    make(&directory).unwrap();
    (directory.clone(), Killer::new(directory, way))
}

#[test]
fn what_is_still_in_a_group_dies_with_it() {
    let Some(real) = Real::with("memory", |groups| groups.memory.is_some()) else { return };
    let group = real.group(Limits { memory_bytes: Some(1 << 30), ..Limits::default() });
    let mut worker = shell(FAMILY);
    group.add(pid(&worker)).unwrap();
    go(&mut worker);
    until(|| group.processes().unwrap().len() == 4);
    let directories = group.directories.clone();
    drop(group);
    assert_eq!(signal(&mut worker), Some(9));
    until(|| directories.iter().all(|directory| !directory.exists()));
}

#[test]
fn a_dead_agents_groups_are_removed_with_what_runs_there() {
    let Some(real) = Real::with("groups", |groups| !groups.places().is_empty()) else { return };
    let own = &real.groups.places().first().unwrap().own;
    // Stands for another agent.
    let mut agent = shell("exit");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", agent.id())).unwrap();
    let start = stat.split(' ').nth(21).unwrap();
    let group = own.join(format!("clutch-{}-{start}", agent.id()));
    make(&group).unwrap();
    make(&group.join("w1")).unwrap();
    let mut worker = shell("exit");
    add(&group.join("w1"), pid(&worker)).unwrap();
    stale::sweep(own);
    assert_eq!(processes(&group).unwrap(), [pid(&worker)]);
    go(&mut agent);
    agent.wait().unwrap();
    stale::sweep(own);
    assert_eq!(signal(&mut worker), Some(9));
    until(|| !group.exists());
}

#[test]
fn this_machine_says_what_it_uses() {
    let Some(real) = Real::with("memory", |groups| groups.memory.is_some()) else { return };
    let memory = real.groups.memory_mechanism().unwrap();
    assert_eq!(real.groups.dies_together(), memory == Mechanism::CgroupV2);
}
