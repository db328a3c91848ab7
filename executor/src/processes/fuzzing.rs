//! What the kernel writes of processes that tasks named, for `executor/fuzz`.

use std::fs;
use std::path::Path;

use super::files::Proc;
use crate::identifiers::Pid;

const PROCESS: Pid = Pid(1);

/// Takes in a file of a process, whichever it is.
pub fn process_files(data: &[u8]) {
    let Ok(root) = tempfile::tempdir() else { return };
    let process = root.path().join(PROCESS.to_string());
    let thread = process.join("task").join(PROCESS.to_string());
    if fs::create_dir_all(&thread).is_err() {
        return;
    }
    for file in ["stat", "status", "smaps", "cmdline"].map(|file| process.join(file)) {
        write(&file, data);
    }
    for file in ["children", "syscall"].map(|file| thread.join(file)) {
        write(&file, data);
    }
    write(&root.path().join("meminfo"), data);
    let proc = Proc::at(root.path());
    proc.stat(PROCESS);
    proc.memory_at_most(PROCESS);
    proc.data_bytes(PROCESS);
    proc.memory_exactly(PROCESS);
    proc.waits_for_itself(PROCESS);
    proc.is_resource_tracker(PROCESS);
    proc.listed_children(PROCESS);
    proc.machine_memory("MemTotal:");
}

fn write(file: &Path, data: &[u8]) {
    // Without it there is nothing to read, which is an input, too.
    fs::write(file, data).ok();
}
