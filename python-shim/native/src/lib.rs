//! The native half of the Python package `joblib_clutch`: what it knows of the
//! network. Its Python half says what the objects mean; `_native.pyi` is their
//! list.

mod access;
mod buffer;
mod call;
mod digest;
mod ending;
mod errors;
mod mapping;
mod office;
mod placement;
mod row;
mod session;

use pyo3::prelude::*;

/// `joblib_clutch._native`
#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::access::read_access_file;
    #[pymodule_export]
    use crate::call::Call;
    #[pymodule_export]
    use crate::digest::digest;
    #[pymodule_export]
    use crate::errors::{BlobRefusedError, OpenDeniedError, OpenFailedError, OpenRefusedError};
    #[pymodule_export]
    use crate::mapping::Mapping;
    #[pymodule_export]
    use crate::office::{Handling, Office};
    #[pymodule_export]
    use crate::placement::Placement;
    #[pymodule_export]
    use crate::session::Session;
}
