//! A worker and all that it started.
//!
//! A worker is the parent of everything below it that has lost its own: it is
//! a subreaper. So as long as it lives, nothing that a task starts leaves the
//! tree, whatever sessions and groups it makes for itself.

use std::collections::HashMap;

use super::files::Proc;
use super::stat::{Process, Stat};
use crate::identifiers::Pid;

/// A process and everything below it, itself first. Empty: it has ended.
pub(crate) type Tree = Vec<Stat>;

/// Processes by their parents.
pub(super) type Families = HashMap<Pid, Vec<Stat>>;

/// More than a machine has.
const MAX_PROCESSES: usize = 4 << 20;

impl Proc {
    /// The trees of these processes, in their order. Where the kernel does not
    /// list children, this reads about all processes, once for all trees.
    pub(crate) fn trees(&self, roots: &[Process]) -> Vec<Tree> {
        let mut everybody = None;
        let mut children = |parent: Pid| match self.listed_children(parent) {
            Some(children) => children.into_iter().filter_map(|pid| self.stat(pid)).collect(),
            None => children_of(everybody.get_or_insert_with(|| self.families()), parent),
        };
        roots.iter().map(|root| with_all_below(self.root(*root), &mut children)).collect()
    }

    /// A tree by reading about all processes. A list of children may leave some
    /// out while others of them end.
    pub(super) fn whole_tree(&self, root: Process) -> Tree {
        let root = self.root(root);
        let mut everybody = if root.is_empty() { Families::new() } else { self.families() };
        with_all_below(root, |parent| children_of(&mut everybody, parent))
    }

    /// A tree that is not followed yet.
    fn root(&self, root: Process) -> Tree {
        self.stat(root.pid).filter(|stat| stat.process == root).into_iter().collect()
    }

    fn families(&self) -> Families {
        families(self.everybody().unwrap_or_default())
    }
}

pub(super) fn families(all: Vec<Stat>) -> Families {
    let mut families = Families::new();
    for stat in all {
        families.entry(stat.parent).or_default().push(stat);
    }
    families
}

/// Children of a process. They are taken out, so that a table that was read
/// while it changed has no rings.
pub(super) fn children_of(families: &mut Families, parent: Pid) -> Vec<Stat> {
    families.remove(&parent).unwrap_or_default()
}

/// These and everything below them.
pub(super) fn with_all_below(mut found: Tree, mut children: impl FnMut(Pid) -> Vec<Stat>) -> Tree {
    // A child is younger than its parent, so there is no way in a circle;
    // still, what changes while it is read is never trusted to end.
    let mut at = 0;
    while let Some(parent) = found.get(at).filter(|_| at < MAX_PROCESSES) {
        let below = children(parent.process.pid);
        found.extend(below);
        at += 1;
    }
    found
}

/// CPU time of a tree, nanoseconds.
pub(crate) fn cpu_nanoseconds(tree: &[Stat]) -> u64 {
    tree.iter().map(|stat| stat.cpu_nanoseconds).fold(0, u64::saturating_add)
}

/// Processes and threads of a tree. What has ended and was not waited for
/// counts: it takes a number too.
pub(crate) fn threads(tree: &[Stat]) -> u64 {
    tree.iter().map(|stat| stat.threads.max(1)).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::path::Path;
    use std::process::{Command, Stdio};

    fn process(root: &Path, pid: u32, parent: u32, children: Option<&str>) {
        let directory = root.join(pid.to_string());
        fs::create_dir_all(directory.join("task").join(pid.to_string())).unwrap();
        let stat = format!("{pid} (x) S {parent} 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 2 0 {pid}00 0");
        fs::write(directory.join("stat"), stat).unwrap();
        if let Some(children) = children {
            fs::write(directory.join("task").join(pid.to_string()).join("children"), children)
                .unwrap();
        }
    }

    fn pids(tree: &Tree) -> Vec<u32> {
        let mut pids: Vec<u32> = tree.iter().map(|stat| stat.process.pid.0).collect();
        pids.sort_unstable();
        pids
    }

    /// 1 has 2 and 3, 2 has 4, 9 is alone.
    fn roots() -> [Process; 2] {
        [1, 9].map(|pid| Process { pid: Pid(pid), started_at: u64::from(pid) * 100 })
    }

    #[test]
    fn a_tree_is_found_by_lists_of_children_and_without_them() {
        for lists in [true, false] {
            let root = tempfile::tempdir().unwrap();
            let list = |children| lists.then_some(children);
            process(root.path(), 1, 0, list("2 3 "));
            process(root.path(), 2, 1, list("4 77 "));
            for (pid, parent) in [(3, 1), (4, 2), (9, 0)] {
                process(root.path(), pid, parent, list(""));
            }
            let trees = Proc::at(root.path()).trees(&roots());
            assert_eq!(trees.iter().map(pids).collect::<Vec<_>>(), [vec![1, 2, 3, 4], vec![9]]);
            assert_eq!(threads(&trees[0]), 8);
            assert_eq!(pids(&Proc::at(root.path()).whole_tree(roots()[0])), [1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_number_that_is_used_again_is_nobody_we_know() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 1, 0, None);
        process(root.path(), 2, 1, None);
        let other = Process { pid: Pid(1), started_at: 5 };
        assert_eq!(Proc::at(root.path()).trees(&[other]), [Tree::new()]);
    }

    #[test]
    fn real_processes_are_found_below_this_one() {
        let script = "sleep 1000 & (sleep 1000 & echo x; wait) & wait";
        let mut shell =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        let (proc, pid) = (Proc::default(), Pid(shell.id()));
        let root = proc.stat(pid).unwrap().process;
        let tree = proc.trees(&[root]).remove(0);
        // The shells, and one or both sleeps, whose shells have forked by now.
        assert!(tree.len() >= 3, "{tree:?}");
        assert_eq!(tree[0].process, root);
        assert!(proc.whole_tree(root).len() >= 3);
        super::super::kill::kill_below(&proc, root);
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!(proc.trees(&[root]), [Tree::new()]);
    }
}
