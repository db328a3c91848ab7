//! Blobs, and batches that use them, as a driver and its agent make them.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use clutch_worker_link::{
    Access, BufferUse, FailureReport, Frame, FromWorker, MappedBlob, RunBatch, ToWorker,
    send_with_descriptors,
};
use rustix::fs::{MemfdFlags, SealFlags};

use crate::harness::{Worker, python};

/// Lets a driver's Python write references, and lambdas by value.
const DRIVER: &str = r#"
import pickle, struct, sys, types
import cloudpickle
import numpy as np

references = types.ModuleType("joblib_clutch.references")
sys.modules["joblib_clutch"] = types.ModuleType("joblib_clutch")
sys.modules["joblib_clutch.references"] = references

def named(name):
    def function(*arguments):
        return Reference(function, arguments)
    function.__module__, function.__qualname__ = references.__name__, name
    setattr(references, name, function)
    return function

class Reference:
    def __init__(self, *parts):
        self.parts = parts
    def __reduce__(self):
        return self.parts

array, private_array, shared, shared_method = map(
    named, ["array", "private_array", "shared", "shared_method"]
)

class Buffered:
    def __init__(self, content):
        self.content = content
    def __reduce_ex__(self, protocol):
        return type(self), (pickle.PickleBuffer(self.content),)

def write(content):
    sys.stdout.buffer.write(struct.pack("<Q", len(content)) + content)

def dump(value, arrays):
    streams = []
    data = cloudpickle.dumps(value, protocol=5, buffer_callback=streams.append)
    write(struct.pack("<I", arrays) + data)
    for stream in streams:
        write(stream.raw().tobytes())
"#;

/// A pickle in the form that refers to blobs, and its stream buffers.
pub(crate) struct Pickle {
    pub(crate) data: Vec<u8>,
    pub(crate) streams: Vec<Vec<u8>>,
}

/// What the results of a batch came as.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) pickle: Vec<u8>,
    pub(crate) lengths: Vec<u64>,
    pub(crate) file: Option<OwnedFd>,
}

/// Pickles the value of an expression that refers to so many blobs as arrays.
pub(crate) fn pickled(expression: &str, arrays: u32) -> Pickle {
    let output = run_python(&format!("{DRIVER}\ndump({expression}, {arrays})"), &[]);
    let mut parts = Vec::new();
    let mut rest = output.as_slice();
    while let Some((length, tail)) = rest.split_first_chunk::<8>() {
        let (part, tail) = tail.split_at(u64::from_le_bytes(*length).try_into().unwrap());
        parts.push(part.to_vec());
        rest = tail;
    }
    let streams = parts.split_off(1);
    Pickle { data: parts.pop().unwrap(), streams }
}

/// What Python says about `a`, an array of a driver, as bytes.
pub(crate) fn content(array: &str) -> Vec<u8> {
    let program =
        format!("import sys, numpy as np\nsys.stdout.buffer.write({array}.tobytes(order='A'))");
    run_python(&program, &[])
}

/// Sealed memory, as the agent makes it. Its name shows in /proc.
pub(crate) fn sealed(content: &[u8]) -> OwnedFd {
    let memory = writable(content);
    rustix::fs::fcntl_add_seals(&memory, SealFlags::WRITE).unwrap();
    memory
}

/// As [`sealed`], for workers to write to.
pub(crate) fn writable(content: &[u8]) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = std::fs::File::from(rustix::fs::memfd_create("test-blob", flags).unwrap());
    memory.write_all_at(content, 0).unwrap();
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    memory.into()
}

/// Uses of blobs for one purpose.
pub(crate) fn uses(blobs: &[u64], access: Access) -> Vec<BufferUse> {
    blobs.iter().map(|blob| BufferUse { blob: *blob, access }).collect()
}

impl Worker {
    /// Gives the worker a blob, sealed.
    pub(crate) fn map(&mut self, blob: u64, content: &[u8]) {
        self.map_file(blob, content.len() as u64, &sealed(content));
    }

    pub(crate) fn map_file(&mut self, blob: u64, bytes: u64, file: &OwnedFd) {
        let message = ToWorker::Map(vec![MappedBlob { blob, bytes }]);
        send_with_descriptors(&self.line, &message, &[file.as_fd()]).unwrap();
    }

    /// Runs a batch that is not a list of expressions.
    pub(crate) fn run_pickle(
        &mut self,
        run: RunBatch,
        payload: &[u8],
    ) -> Result<Done, FailureReport> {
        self.send(&ToWorker::Run(RunBatch { nesting_level: 1, ..run }), payload);
        let Frame { message, payload: pickle } = self.receive();
        match message {
            FromWorker::Done(_, lengths) => {
                let file = self.descriptors.pop();
                assert!(self.descriptors.is_empty());
                Ok(Done { pickle, lengths, file })
            }
            FromWorker::Failed(_, failure) => Err(failure),
            other @ (FromWorker::Ready | FromWorker::SetupFailed(_) | FromWorker::Saved(_)) => {
                panic!("unexpected {other:?}")
            }
        }
    }

    /// Runs a function that takes nothing.
    pub(crate) fn run_function(
        &mut self,
        function: &str,
        run: RunBatch,
    ) -> Result<Done, FailureReport> {
        // A batch without blobs does not begin with their number.
        self.run_pickle(run, &pickled(&format!("[({function}, (), {{}})]"), 0).data[4..])
    }

    pub(crate) fn results_of(&mut self, function: &str, run: RunBatch) -> Done {
        self.run_function(function, run).unwrap()
    }

    /// Memory that is the worker's own, or was its zygote's.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        let rollup = self.proc_file("smaps_rollup");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// How many maps of blobs it has.
    pub(crate) fn blob_maps(&self) -> usize {
        self.proc_file("maps").matches("memfd:test-blob").count()
    }

    pub(crate) fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())).unwrap().count()
    }

    fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.pid.as_raw_nonzero())).unwrap()
    }

    /// Runs tasks with arrays; each array is one of the blobs.
    pub(crate) fn run_arrays(&mut self, tasks: &str, buffers: Vec<BufferUse>) -> String {
        let arrays = buffers.len().try_into().unwrap();
        let run = RunBatch { buffers, ..RunBatch::default() };
        self.run_pickle(run, &pickled(tasks, arrays).data).unwrap().evaluate("results")
    }
}

impl Done {
    /// What a driver's expression of `results` says; buffers may be written to.
    pub(crate) fn evaluate(&self, expression: &str) -> String {
        let mut input = Vec::new();
        let mut begin = 0_u64;
        let mut part = |bytes: &[u8]| {
            input.extend((bytes.len() as u64).to_le_bytes());
            input.extend(bytes);
        };
        part(&self.pickle);
        let file = self.file.as_ref().map(|file| file.try_clone().unwrap().into());
        for length in &self.lengths {
            let file: &std::fs::File = file.as_ref().unwrap();
            let mut buffer = vec![0; (*length).try_into().unwrap()];
            begin = begin.next_multiple_of(clutch_worker_link::BUFFER_ALIGNMENT);
            file.read_exact_at(&mut buffer, begin).unwrap();
            begin += length;
            part(&buffer);
        }
        let program = format!(
            "import pickle, struct, sys\nimport numpy as np\nread = sys.stdin.buffer.read\n\
             parts = []\nwhile length := read(8):\n \
             parts.append(bytearray(read(struct.unpack('<Q', length)[0])))\n\
             results = pickle.loads(parts[0], buffers=parts[1:])\n\
             print({expression}, end='')"
        );
        String::from_utf8(run_python(&program, &input)).unwrap()
    }
}

fn run_python(program: &str, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(python());
    command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = command.spawn().unwrap();
    python.stdin.take().unwrap().write_all(input).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}
