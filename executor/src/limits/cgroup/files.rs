//! The files of control groups: directories that are groups, and knobs in them.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::identifiers::Pid;

/// The knob that lists the processes of a group, and takes more.
pub(super) const PROCESSES: &str = "cgroup.procs";

/// Makes a group. One that is there already is as good.
pub(super) fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Ok(()) => {
            #[cfg(test)]
            super::fake::furnish(group);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(named("make", group, &error)),
    }
}

/// Removes a group with all groups below it. One that is gone is as good.
///
/// # Errors
/// [`ErrorKind::ResourceBusy`] while there are processes in it.
pub(super) fn remove(group: &Path) -> io::Result<()> {
    for below in groups_below(group) {
        remove(&below)?;
    }
    #[cfg(test)]
    super::fake::clear(group);
    match fs::remove_dir(group) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(named("remove", group, &error)),
        _ => Ok(()),
    }
}

/// Removes a group that nothing is in, and lets any other be.
pub(super) fn remove_if_empty(group: &Path) {
    #[cfg(test)]
    super::fake::clear(group);
    // Whatever is in it is somebody's.
    fs::remove_dir(group).ok();
}

/// The groups right below one; none when it is gone.
pub(super) fn groups_below(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    let directories = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Whether this kernel has a knob.
pub(super) fn has(group: &Path, knob: &str) -> bool {
    group.join(knob).exists()
}

/// Writes a knob, in one write as the kernel wants it.
pub(super) fn write(group: &Path, knob: &str, value: &str) -> io::Result<()> {
    let path = group.join(knob);
    #[cfg(test)]
    if let Some(written) = super::fake::write(group, knob, value) {
        return written;
    }
    let written = OpenOptions::new().write(true).open(&path);
    let written = written.and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|error| named(&format!("write `{value}` to"), &path, &error))
}

/// Reads a knob.
pub(super) fn read(group: &Path, knob: &str) -> io::Result<String> {
    let path = group.join(knob);
    fs::read_to_string(&path).map_err(|error| named("read", &path, &error))
}

/// Reads a knob that is one number. `max` is the largest there is.
pub(super) fn number(group: &Path, knob: &str) -> io::Result<u64> {
    let text = read(group, knob)?;
    parsed(text.trim()).ok_or_else(|| unknown(group, knob, &text))
}

/// Reads one number of a knob whose lines are `name number`. One that this
/// kernel does not count is 0.
pub(super) fn counted(group: &Path, knob: &str, name: &str) -> io::Result<u64> {
    let text = read(group, knob)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(Ok(0), |number| parsed(number.trim()).ok_or_else(|| unknown(group, knob, number)))
}

/// Whether a process could be put into a group by us.
pub(super) fn takes_processes(group: &Path) -> io::Result<()> {
    let path = group.join(PROCESSES);
    let opened = OpenOptions::new().write(true).open(&path);
    opened.map(drop).map_err(|error| named("write to", &path, &error))
}

/// The processes of a group alone; see [`processes`].
pub(super) fn own_processes(group: &Path) -> io::Result<Vec<Pid>> {
    let text = read(group, PROCESSES)?;
    Ok(text.lines().filter_map(|pid| pid.trim().parse().ok().map(Pid)).collect())
}

/// The processes of a group and of those below it. One that cannot be seen from
/// here, because it is in another namespace, is number 0.
pub(super) fn processes(group: &Path) -> io::Result<Vec<Pid>> {
    let mut found = own_processes(group)?;
    for below in groups_below(group) {
        match processes(&below) {
            Ok(more) => found.extend(more),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Puts a process into a group, with its threads.
pub(super) fn add(group: &Path, pid: Pid) -> io::Result<()> {
    write(group, PROCESSES, &pid.to_string())
}

fn parsed(number: &str) -> Option<u64> {
    if number == "max" { Some(u64::MAX) } else { number.parse().ok() }
}

fn unknown(group: &Path, knob: &str, text: &str) -> io::Error {
    let path = group.join(knob);
    io::Error::new(
        ErrorKind::InvalidData,
        format!("`{}` is not understood: `{}`", path.display(), text.trim()),
    )
}

fn named(action: &str, path: &Path, error: &io::Error) -> io::Error {
    // A group that is removed while a knob of it is open: ENODEV.
    let gone = error.raw_os_error() == Some(Errno::NODEV.raw_os_error());
    let kind = if gone { ErrorKind::NotFound } else { error.kind() };
    io::Error::new(kind, format!("cannot {action} `{}`: {error}", path.display()))
}
