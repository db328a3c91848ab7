//! Who is below a process without anybody's knowledge.

use super::stat::{Process, Stat};
use super::tree::{children_of, families, with_all_below};
use crate::identifiers::Pid;

/// Those children of `parent` that nobody knows, and all below them, as far as
/// they still live.
pub(crate) fn strangers(
    all: Vec<Stat>,
    parent: Pid,
    is_known: impl Fn(Pid) -> bool,
) -> Vec<Process> {
    let mut families = families(all);
    let mut found = children_of(&mut families, parent);
    found.retain(|stat| !is_known(stat.process.pid));
    let found = with_all_below(found, |parent| children_of(&mut families, parent));
    found.into_iter().filter(|stat| !stat.zombie).map(|stat| stat.process).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32) -> Stat {
        Stat {
            process: Process { pid: Pid(pid), started_at: 0 },
            parent: Pid(parent),
            zombie: false,
            ending: false,
            stopped: false,
            threads: 1,
            cpu_nanoseconds: 0,
        }
    }

    fn found(all: &[Stat], known: &[u32]) -> Vec<u32> {
        let is_known = |pid: Pid| known.contains(&pid.0);
        strangers(all.to_vec(), Pid(1), is_known).iter().map(|process| process.pid.0).collect()
    }

    #[test]
    fn strangers_are_found_with_all_that_is_below_them_and_the_known_are_not() {
        let all = [(10, 1), (11, 10), (20, 1), (21, 20), (22, 21), (30, 2)];
        let mut all = all.map(|(pid, parent)| process(pid, parent));
        assert_eq!(found(&all, &[10]), [20, 21, 22]);
        assert_eq!(found(&all, &[10, 20]), [0_u32; 0]);
        all[2].zombie = true;
        assert_eq!(found(&all, &[10]), [21, 22], "what has ended is not killed");
    }

    #[test]
    fn a_table_that_changed_while_it_was_read_is_no_endless_loop() {
        let all = [process(10, 1), process(11, 12), process(12, 11), process(10, 10)];
        assert_eq!(found(&all, &[]), [10, 10]);
    }
}
