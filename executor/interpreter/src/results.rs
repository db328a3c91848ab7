//! Results: a pickle, and its large buffers in a file.

use std::io::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use clutch_shared_memory::Piece;
use clutch_worker_link::{BUFFER_ALIGNMENT, Phase};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use crate::buffer::Content;
use crate::clock::now;
use crate::exception::SOURCE_FILE;
use crate::failure::Failure;
use crate::toolbox::Toolbox;
use crate::{exception, pickling};

/// Values of a container, and containers of a result, that are looked at one by
/// one; with more, pickling takes so long that the way does not matter.
const PLAIN_VALUES: usize = 16;

/// What `results.py` offers.
pub(crate) struct Results {
    dump: Py<PyAny>,
    dump_by_value: Py<PyAny>,
    dump_inside: Py<PyAny>,
    /// Subclass of cloudpickle's pickler, when there is one.
    cloud_pickler: Option<Py<PyAny>>,
}

/// Results on their way to the agent.
pub(crate) struct Pickled<'py> {
    pub(crate) pickle: Bound<'py, PyBytes>,
    pub(crate) buffers: Option<Buffers>,
}

/// Buffers that stayed outside of the pickle, in a file as
/// [`clutch_worker_link::FromWorker::Done`] says.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) file: OwnedFd,
    pub(crate) lengths: Vec<u64>,
}

impl Results {
    /// `cloudpickle` is the module, when there is one.
    pub(crate) fn prepare(
        py: Python<'_>,
        cloudpickle: Option<&Bound<'_, PyModule>>,
    ) -> PyResult<Self> {
        let code = pyo3::ffi::c_str!(include_str!("results.py"));
        let module = PyModule::from_code(py, code, SOURCE_FILE, c"clutch_results")?;
        let named = |name: &str| Ok::<_, PyErr>(module.getattr(name)?.unbind());
        let cloud_pickler = cloudpickle
            .and_then(|cloudpickle| module.call_method1("cloud_pickler", (cloudpickle,)).ok());
        Ok(Self {
            dump: named("dump")?,
            dump_by_value: named("dump_by_value")?,
            dump_inside: named("dump_inside")?,
            cloud_pickler: cloud_pickler.map(Bound::unbind),
        })
    }
}

/// Pickles results for the driver. Their large buffers go into memory, or into
/// a file of a directory when one is named. The first is that of a task with an
/// index.
pub(crate) fn dump<'py>(
    tools: &Toolbox,
    results: &Bound<'py, PyList>,
    first_task: usize,
    directory: &str,
) -> Result<Pickled<'py>, Failure<'py>> {
    let unpicklable = |error: PyErr| Failure::unpicklable(tools, results, first_task, &error);
    if results.iter().all(|result| is_plain(&result, &mut { PLAIN_VALUES })) {
        let pickle = pickling::dumps(tools, results).map_err(unpicklable)?;
        return Ok(Pickled { pickle, buffers: None });
    }
    let (pickle, views) = dump_with_views(tools, results).map_err(unpicklable)?;
    if views.is_empty() {
        return Ok(Pickled { pickle, buffers: None });
    }
    let buffers = store(&views, directory)
        .map_err(|error| no_room(results.py(), &views, directory, &error))?;
    Ok(Pickled { pickle, buffers: Some(buffers) })
}

/// Pickles results for the driver, with all buffers in the pickle; `None` when
/// that takes more than `most` bytes, which is found out before there are more.
pub(crate) fn dump_inside<'py>(
    tools: &Toolbox,
    results: &Bound<'py, PyList>,
    most: u64,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = results.py();
    let dump = tools.results.dump_inside.bind(py);
    let dumped = |pickler: Option<&Py<PyAny>>| {
        let pickle = dump.call1((pickler, results, most))?;
        Ok(if pickle.is_none() { None } else { Some(pickle.cast_into::<PyBytes>()?) })
    };
    let plain: PyResult<Option<Bound<'py, PyBytes>>> = dumped(None);
    let Some(pickler) = &tools.results.cloud_pickler else { return plain };
    match plain {
        Ok(Some(pickle)) if pickling::names_our_main(tools, &pickle) => dumped(Some(pickler)),
        Err(_) => dumped(Some(pickler)),
        Ok(plain) => Ok(plain),
    }
}

/// Whether a value surely has no buffers and no arrays, for the price of looking
/// at types; `left` bounds how many containers are looked at.
fn is_plain(value: &Bound<'_, PyAny>, left: &mut usize) -> bool {
    let simple = value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_none()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyBytes>();
    if simple || *left == 0 {
        return simple;
    }
    *left -= 1;
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        return tuple.len() <= PLAIN_VALUES && tuple.iter().all(|item| is_plain(&item, left));
    }
    if let Ok(list) = value.cast_exact::<PyList>() {
        return list.len() <= PLAIN_VALUES && list.iter().all(|item| is_plain(&item, left));
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        return dict.len() <= PLAIN_VALUES
            && dict.iter().all(|(key, item)| is_plain(&key, left) && is_plain(&item, left));
    }
    false
}

type PickleAndViews<'py> = (Bound<'py, PyBytes>, Bound<'py, PyList>);

/// As [`pickling::dumps`], with buffers outside.
fn dump_with_views<'py>(
    tools: &Toolbox,
    results: &Bound<'py, PyList>,
) -> PyResult<PickleAndViews<'py>> {
    let py = results.py();
    let own = &tools.results;
    let plain = own.dump.bind(py).call1((results,));
    let plain = plain.and_then(|pair| pair.extract::<PickleAndViews<'py>>());
    let Some(pickler) = &own.cloud_pickler else { return plain };
    match plain {
        Ok(pair) if !pickling::names_our_main(tools, &pair.0) => Ok(pair),
        _ => own.dump_by_value.bind(py).call1((pickler, results))?.extract(),
    }
}

fn store(views: &Bound<'_, PyList>, directory: &str) -> PyResult<Buffers> {
    let contents = views.iter().map(|view| Content::of(&view)).collect::<PyResult<Vec<_>>>()?;
    let mut end = 0_u64;
    let place = |content| {
        let offset = end.next_multiple_of(BUFFER_ALIGNMENT);
        let piece = Piece { offset, content };
        end = offset + content.len() as u64;
        piece
    };
    let pieces = contents.iter().map(Content::bytes).map(place).collect::<Vec<_>>();
    let lengths = pieces.iter().map(|piece| piece.content.len() as u64).collect();
    let written = views.py().detach(|| {
        if directory.is_empty() {
            return in_memory(&pieces, end);
        }
        let file = unlinked_file(Path::new(directory))?;
        clutch_shared_memory::fill(file.as_fd(), &pieces, 0..end)?;
        Ok(file)
    });
    Ok(Buffers { file: written?, lengths })
}

fn in_memory(pieces: &[Piece<'_>], bytes: u64) -> Result<OwnedFd, Error> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("clutch-result", flags)?;
    rustix::fs::ftruncate(&file, bytes)?;
    // Whoever maps it can rely on its length from now on, as we do.
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    clutch_shared_memory::fill(file.as_fd(), pieces, 0..bytes)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file)
}

/// A file that vanishes with its last user.
fn unlinked_file(directory: &Path) -> Result<OwnedFd, Error> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        return Ok(file);
    }
    // Not every file system makes files without a name.
    let path = directory.join(format!("clutch-result-{}-{}", std::process::id(), now()));
    let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    rustix::fs::unlink(&path)?;
    Ok(file)
}

/// The buffers could not be written: the batch fails, the worker lives.
fn no_room<'py>(
    py: Python<'py>,
    views: &Bound<'py, PyList>,
    directory: &str,
    error: &PyErr,
) -> Failure<'py> {
    let length = |view: Bound<'_, PyAny>| view.getattr("nbytes")?.extract::<u64>();
    let bytes: u64 = views.iter().filter_map(|view| length(view).ok()).sum();
    let place = if directory.is_empty() { "shared memory" } else { directory };
    let error = exception::one_line(py, error);
    let message = format!("the results' buffers of {bytes} bytes do not fit into {place}: {error}");
    Failure::told(Phase::TooLarge, message)
}
