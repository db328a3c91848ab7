//! A session on an agent.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use clutch_client::{Address, BlobError, CallOptions, Named, OpenError};
use clutch_protocol::v1;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::access;
use crate::buffer::Content;
use crate::call::Call;
use crate::errors::{self, BlobRefusedError, OpenDeniedError, OpenFailedError};
use crate::mapping::Mapping;
use crate::office::Office;

/// The session with Python objects as tokens.
pub(crate) type Conversation = clutch_client::Session<Py<PyAny>>;

/// `joblib_clutch.profile.WorkerLimits`; zeros are none.
type Limits = (u64, f64, u32, u64, u64, bool);

/// How long a session is to outlive a connection that broke, where that can be.
const SILENCE_SECONDS: f64 = 60.0;

/// See `Session` in `joblib_clutch/_native.pyi`.
#[pyclass(frozen, module = "joblib_clutch._native")]
pub(crate) struct Session {
    session: Arc<Conversation>,
}

#[pymethods]
impl Session {
    #[staticmethod]
    #[pyo3(signature = (office, address, *, client_version, python_version, implementation, executable,
                        cloudpickle_version, joblib_version, python, name, silence_seconds, weight,
                        max_running, access=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords")]
    fn open(
        py: Python<'_>,
        office: &Office,
        address: &str,
        client_version: String,
        python_version: String,
        implementation: String,
        executable: String,
        cloudpickle_version: String,
        joblib_version: String,
        python: String,
        name: String,
        silence_seconds: Option<f64>,
        weight: f64,
        max_running: u32,
        access: Option<PathBuf>,
    ) -> PyResult<Self> {
        let address =
            Address::parse(address).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let access = access.map(|path| access::of_driver(&path)).transpose()?;
        let default_silence = if address.may_break() { SILENCE_SECONDS } else { 0.0 };
        let environment = v1::Environment {
            python_version,
            implementation,
            executable,
            cloudpickle_version,
            joblib_version,
            ..Default::default()
        };
        let request = v1::OpenSessionRequest {
            protocol: Some(v1::ProtocolVersion::CURRENT),
            client_version,
            environment: Some(environment),
            python,
            name,
            silence_seconds: silence_seconds.unwrap_or(default_silence),
            weight,
            max_running,
        };
        // What a signal handler raised while we waited.
        let mut raised = None;
        let opened = py.detach(|| {
            Conversation::open(&office.office, &address, access.as_ref(), request, || {
                raised = Python::attach(|py| py.check_signals().err());
                raised.is_none()
            })
        });
        match (opened, raised) {
            (_, Some(raised)) => Err(raised),
            (Ok(session), None) => Ok(Self { session: Arc::new(session) }),
            (Err(OpenError::Unreachable(why)), None) => Err(OpenFailedError::new_err(why)),
            (Err(OpenError::Denied(why)), None) => Err(OpenDeniedError::new_err(why)),
            (Err(OpenError::Refused(refusal)), None) => Err(errors::refusal(py, &refusal)?),
        }
    }

    #[getter]
    fn slots(&self) -> u32 {
        self.session.slots()
    }

    #[getter]
    fn host(&self) -> &str {
        &self.session.opened().host
    }

    /// What it says of its packages.
    #[getter]
    fn packages(&self) -> HashMap<String, String> {
        let environment = self.session.opened().environment.as_ref();
        environment.map(|environment| environment.packages.clone()).unwrap_or_default()
    }

    #[getter]
    fn max_batch_bytes(&self) -> u64 {
        self.session.opened().max_batch_bytes
    }

    #[getter]
    fn silence_seconds(&self) -> f64 {
        self.session.opened().silence_seconds
    }

    #[getter]
    fn attached(&self) -> bool {
        self.session.is_attached()
    }

    #[getter]
    fn lost(&self) -> Option<String> {
        self.session.lost().map(|lost| lost.0)
    }

    #[getter]
    fn shares_memory(&self) -> bool {
        self.session.has_data_line()
    }

    #[getter]
    fn takes_code(&self) -> bool {
        let protocol = self.session.opened().protocol.unwrap_or_default();
        protocol.major > 1 || protocol.minor >= 1
    }

    fn define_profile(
        &self,
        variables: Vec<(String, String)>,
        workers: u32,
        setup: &Bound<'_, PyBytes>,
        limits: Limits,
        code: Vec<(u64, Vec<u8>, bool)>,
    ) -> u64 {
        let (memory_bytes, cpus, processes, open_files, scratch_bytes, soft_memory) = limits;
        let limits =
            v1::Limits { memory_bytes, cpus, processes, open_files, scratch_bytes, soft_memory };
        self.session.define_profile(v1::DefineProfile {
            profile_id: 0,
            variables: variables.into_iter().collect(),
            workers,
            setup: bytes::Bytes::copy_from_slice(setup.as_bytes()),
            limits: Some(limits).filter(|limits| *limits != v1::Limits::default()),
            code: code.into_iter().map(archive).collect(),
        })
    }

    #[pyo3(signature = (profile_id, *, max_running, nesting_level, task_timeout_seconds,
                        task_cpu_seconds, retries, awaited))]
    #[expect(clippy::too_many_arguments, reason = "keywords")]
    fn open_call(
        &self,
        profile_id: u64,
        max_running: u32,
        nesting_level: u32,
        task_timeout_seconds: f64,
        task_cpu_seconds: f64,
        retries: Option<u32>,
        awaited: bool,
    ) -> Call {
        let open = v1::OpenCall {
            call_id: 0,
            profile_id,
            max_running,
            nesting_level,
            task_timeout_seconds,
            task_cpu_seconds,
            retries,
        };
        let (of_all, leg) = self.session.open_call(CallOptions { open, awaited });
        Call { session: Arc::clone(&self.session), of_all, leg }
    }

    fn join_call(&self, call: &Call, profile_id: u64, max_running: u32) -> Call {
        let of_all = Arc::clone(&call.of_all);
        let leg = self.session.join_call(&of_all, profile_id, max_running);
        Call { session: Arc::clone(&self.session), of_all, leg }
    }

    #[pyo3(signature = (content, writable, digest=None, sources=Vec::new()))]
    fn put(
        &self,
        py: Python<'_>,
        content: &Bound<'_, PyAny>,
        writable: bool,
        digest: Option<[u8; 32]>,
        sources: Vec<String>,
    ) -> PyResult<(u64, Option<Mapping>)> {
        if writable && digest.is_some() {
            let why = "what workers may write to has no digest";
            return Err(PyValueError::new_err(why));
        }
        let put = |bytes: &[u8]| {
            if let Some(digest) = digest {
                return Ok((self.session.put_named(bytes, Named { digest, sources })?, None));
            }
            let (blob_id, file) = self.session.put(bytes, writable)?;
            let mapping = file.and_then(|file| Mapping::kept(file, bytes.len() as u64).ok());
            Ok((blob_id, mapping))
        };
        let done = if let Ok(kept) = content.cast::<Mapping>() {
            let kept = kept.get();
            py.detach(|| put(kept.bytes()))
        } else {
            let content = Content::of(content)?;
            py.detach(|| put(content.bytes()))
        };
        match done {
            Ok(put) => Ok(put),
            Err(BlobError::Refused(failure)) => Err(BlobRefusedError::new_err(
                errors::failure(py, &failure, 0, Vec::new(), &[])?.unbind(),
            )),
            Err(BlobError::Lost(lost)) => Err(OpenFailedError::new_err(lost.0)),
            Err(BlobError::Io(error)) => Err(PyOSError::new_err(error.to_string())),
        }
    }

    fn release(&self, blob_ids: Vec<u64>) {
        self.session.release(blob_ids);
    }

    fn sees(
        &self,
        py: Python<'_>,
        path: String,
        device: u64,
        inode: u64,
        bytes: u64,
    ) -> PyResult<bool> {
        py.detach(|| self.session.sees(v1::SameFile { path, device, inode, bytes }))
            .map_err(|lost| OpenFailedError::new_err(lost.to_string()))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.session.close());
    }
}

fn archive((blob_id, digest, working_directory): (u64, Vec<u8>, bool)) -> v1::CodeArchive {
    v1::CodeArchive { blob_id, digest: digest.into(), working_directory }
}
