//! Code of the driver, as a worker is told of it.

use std::io;

use clutch_worker_link::{CodeArchive, DriverCode};

use super::message::WorkerCode;

/// Where it is unpacked, and from what.
///
/// # Errors
/// When there is no place for it.
pub(super) fn placed(code: &WorkerCode) -> io::Result<DriverCode> {
    let path = code.files.path()?;
    let directory = path
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("the path `{}` is no text", path.display())))?;
    let archives = code.archives.iter().map(|archive| CodeArchive {
        blob: archive.held.blob().id(),
        name: archive.name.clone(),
        working_directory: archive.working_directory,
    });
    Ok(DriverCode { directory, archives: archives.collect() })
}
