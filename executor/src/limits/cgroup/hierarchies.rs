//! Where this process is in the machine's hierarchies of control groups.
//!
//! `/proc/self/cgroup` says which group this is, in each hierarchy.
//! `/proc/self/mountinfo` says where hierarchies, or parts of them, are mounted.

use std::io;
use std::path::{Component, Path, PathBuf};

/// What a hierarchy of version 1 controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    CpuAccounting,
    Pids,
    Freezer,
}

/// The directories of this process's own groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// In the one hierarchy of version 2.
    pub(super) v2: Option<PathBuf>,
    /// In hierarchies of version 1. Two controllers may share one.
    v1: Vec<(Controller, PathBuf)>,
}

const CONTROLLERS: [(Controller, &str); 5] = [
    (Controller::Memory, "memory"),
    (Controller::Cpu, "cpu"),
    (Controller::CpuAccounting, "cpuacct"),
    (Controller::Pids, "pids"),
    (Controller::Freezer, "freezer"),
];

/// A line of `/proc/self/mountinfo` that is about control groups.
struct Mount<'a> {
    /// The group that is seen there.
    root: PathBuf,
    point: PathBuf,
    is_v2: bool,
    writable: bool,
    options: &'a str,
}

impl Hierarchies {
    /// Reads them below a root, which is `/` but in tests.
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let own = std::fs::read_to_string(root.join("proc/self/cgroup"))?;
        let mounts = std::fs::read_to_string(root.join("proc/self/mountinfo"))?;
        Ok(Self::parse(&own, &mounts).below(root))
    }

    /// This process's group in the hierarchy of version 1 with this controller.
    pub(super) fn v1(&self, controller: Controller) -> Option<&Path> {
        let found = self.v1.iter().find(|(other, _)| *other == controller);
        found.map(|(_, group)| group.as_path())
    }

    pub(super) fn parse(own: &str, mounts: &str) -> Self {
        let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
        let mut found = Self::default();
        for line in own.lines() {
            // `4:memory:/a/b`; `0::/a/b` is version 2. Paths may have colons.
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if names.is_empty() {
                found.v2 = directory(&mounts, path, |mount| mount.is_v2);
                continue;
            }
            for (controller, name) in CONTROLLERS {
                let here = |mount: &Mount<'_>| !mount.is_v2 && mount.controls(name);
                if names.split(',').any(|other| other == name)
                    && let Some(group) = directory(&mounts, path, here)
                {
                    found.v1.push((controller, group));
                }
            }
        }
        found
    }

    fn below(self, root: &Path) -> Self {
        let below = |path: PathBuf| root.join(path.strip_prefix("/").unwrap_or(&path));
        Self {
            v2: self.v2.map(below),
            v1: self.v1.into_iter().map(|(which, path)| (which, below(path))).collect(),
        }
    }
}

/// Where a group is found; where it can be written, when there are several.
fn directory(
    mounts: &[Mount<'_>],
    group: &str,
    suits: impl Fn(&Mount<'_>) -> bool,
) -> Option<PathBuf> {
    let all = || mounts.iter().filter(|mount| suits(mount));
    let writable = all().filter(|mount| mount.writable).find_map(|mount| mount.find(group));
    writable.or_else(|| all().find_map(|mount| mount.find(group)))
}

impl<'a> Mount<'a> {
    /// `35 31 0:32 /root /point rw,relatime optional - cgroup name rw,memory`.
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point, own) = (mount.next()?, mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let is_v2 = match system.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = system.nth(1)?;
        let writable = [own, options].iter().all(|all| all.split(',').all(|one| one != "ro"));
        let (root, point) = (unescaped(root), unescaped(point));
        Some(Self { root, point, is_v2, writable, options })
    }

    fn controls(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option == name)
    }

    /// Where a group is seen through this mount; `None`: outside.
    fn find(&self, group: &str) -> Option<PathBuf> {
        let below = Path::new(group).strip_prefix(&self.root).ok()?;
        // A group outside this process's namespace is written with dots.
        let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| {
            if below == Path::new("") { self.point.clone() } else { self.point.join(below) }
        })
    }
}

/// Spaces and the like are written in octal: `\040`.
fn unescaped(path: &str) -> PathBuf {
    let mut parts = path.split('\\');
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok());
        if let Some(code) = code {
            clean.push(char::from(code));
            clean.push_str(&part[3..]);
        } else {
            clean.push('\\');
            clean.push_str(part);
        }
    }
    PathBuf::from(clean)
}

#[cfg(test)]
#[path = "hierarchies_tests.rs"]
mod tests;
